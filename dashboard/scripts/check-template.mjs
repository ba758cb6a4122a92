// Puts the one built page where the package ships it, unless it isn't self-contained.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const page = readFileSync("dist/index.html", "utf8");
const target = "../spectramind_nb/dashboard/template.html";
const faults = [
  !page.includes("<!-- data -->") && "the comment that the data replace is gone",
  /<(?:script|link|img)[^>]+(?:src|href)="(?!data:|#)/.test(page) && "it refers to another file",
  /@import|url\((?!["']?(?:data:|#))/.test(page.slice(0, page.indexOf("</style>"))) && "its style refers to another file",
  page.length > 1_000_000 && `it has ${page.length} bytes, more than a million`,
].filter(Boolean);
if (faults.length) throw new Error(faults.join("; "));
mkdirSync("../spectramind_nb/dashboard", { recursive: true });
writeFileSync(target, page);
console.log(`${target}: ${Math.round(page.length / 1000)} kB`);
