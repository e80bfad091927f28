#!/usr/bin/env node
// Does what `yarn` does in an app whose packages are installed: `yarn start`, `yarn run start`, `yarn workspace api start`,
// `yarn node server.js`, `yarn` with a program of a package.
"use strict";
const { spawn } = require("node:child_process");
const { existsSync, readdirSync, readFileSync } = require("node:fs");
const { join } = require("node:path");

const manifest = (folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));

function workspace(name, folder, depth) {
  if (existsSync(join(folder, "package.json")) && manifest(folder).name === name) return folder;
  if (depth === 0) return undefined;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name === "node_modules" || entry.name.startsWith(".")) continue;
    const found = workspace(name, join(folder, entry.name), depth - 1);
    if (found) return found;
  }
}

let words = process.argv.slice(2);
let folder = process.cwd();
if (words[0] === "workspace") {
  folder = workspace(words[1], folder, 4);
  if (!folder) {
    console.error(`there is no workspace ${words[1]}: correct its name in the command`);
    process.exit(1);
  }
  words = words.slice(2);
}
if (words[0] === "run" || words[0] === "exec") words = words.slice(1);
const [name = "start", ...rest] = words;
const script = manifest(folder).scripts?.[name] ?? name;
const path = [join(folder, "node_modules/.bin"), join(process.cwd(), "node_modules/.bin"), process.env.PATH].join(":");
const child = spawn("bash", ["-c", `${script} "$@"`, name, ...rest], {
  cwd: folder,
  stdio: "inherit",
  env: { ...process.env, PATH: path },
});
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(code ?? (signal ? 143 : 1)));
