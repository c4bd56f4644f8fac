// Compiles one source after another in one process: the compiler stays warm. A request is a line of JSON, the
// compiler's standard input for a single file; so is the answer.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const solc = require("solc");

const root = path.resolve(__dirname, "..", "..");
const files = new Map();

const read = (name) => {
  try {
    if (!files.has(name)) files.set(name, fs.readFileSync(path.resolve(root, name), "utf8"));
    return { contents: files.get(name) };
  } catch (error) {
    return { error: error.message };
  }
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(JSON.parse(solc.compile(line, { import: read }))) + "\n");
});
