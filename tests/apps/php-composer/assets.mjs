// What it is made of is in vendor/ only when Composer has run.
import { cpSync } from "node:fs";

cpSync("vendor/acme/phrases/resources", "public/made", { recursive: true });
