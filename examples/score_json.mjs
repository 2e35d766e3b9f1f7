// Score a row with a model that `dsoftmax export RUN --to json` wrote, without any library.
//
// node examples/score_json.mjs model.json 0.5 2.0 1.5

import { readFileSync } from "node:fs";

export function score(model, row) {
  if (model.format !== "dsoftmax" || model.version !== 1 || Object.keys(model.before).length)
    throw new Error(`these steps come first: ${JSON.stringify(model.before)}`);
  if (row.length !== model.coef[0].length)
    throw new Error(`expected ${model.coef[0].length} features`);
  const logits = model.coef.map((coef, k) =>
    coef.reduce((sum, w, j) => sum + w * row[j], model.intercept[k]));
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const exponentials = logits.map((z) => Math.exp(z - largest));
  const total = exponentials.reduce((a, b) => a + b);
  return [model.classes[logits.indexOf(largest)], exponentials.map((e) => e / total)];
}

const [path, ...words] = process.argv.slice(2);
const model = JSON.parse(readFileSync(path, "utf8"));
console.log(JSON.stringify(score(model, words.map(Number))));
