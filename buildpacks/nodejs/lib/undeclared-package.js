// Prints the first package that the program imports and that is no part of Node.js.
const { readFileSync } = require("fs");
const { builtinModules } = require("module");

const text = readFileSync(process.argv[2], "utf8").replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
const imports = /(?:(?:^|[^.\w])require\(\s*|^\s*(?:import|export|\})[^'"`;]*?\bfrom\s*|^\s*import\s*)(['"])((?:@[a-z0-9._-]+\/)?[a-z0-9][^'"]*)\1/gm;
let match;
while ((match = imports.exec(text))) {
  const name = match[2];
  if (name.includes(":")) continue; // node:http
  const found = name.split("/").slice(0, name.startsWith("@") ? 2 : 1).join("/");
  if (builtinModules.includes(found)) continue;
  console.log(found);
  break;
}
