// Reads YAML on standard input and prints what is in it as JSON: {objects: [...], problems: [...]}. Each object is held against the schema of its kind,
// and may have no field that the schema does not know: an API server drops or refuses it.
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";

const PACKAGES = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

// The schemas do not forbid other fields. But they read every field that they know of, and no other: `read` holds, by object, what was looked at.
function watched(object, read) {
  if (object === null || typeof object !== "object") return object;
  if (!read.has(object)) read.set(object, new Set());
  return new Proxy(object, {
    get(target, name) {
      if (Object.hasOwn(target, name)) read.get(target).add(name);
      return watched(target[name], read);
    },
  });
}

function unread(object, path, read) {
  if (object === null || typeof object !== "object") return [];
  return Object.keys(object).flatMap((name) =>
    read.get(object)?.has(name) ? unread(object[name], `${path}.${name}`, read) : [`${path}.${name} is no field`]);
}

async function problemsOf(object) {
  const [version, group] = object.apiVersion.split("/").reverse();
  const kinds = await import(`${PACKAGES[group] ?? "kubernetes-models"}/${group ? `${group}/` : ""}${version}`);
  if (!kinds[object.kind]) return [`no kind ${object.kind} in ${object.apiVersion}`];
  const model = new kinds[object.kind](object);
  const read = new Map();
  try {
    model.validate.call(watched(model, read));
  } catch (error) {
    return [error.message];
  }
  return Object.keys(model).flatMap((name) => unread(model[name], name, read));
}

const result = { objects: [], problems: [] };
for (const document of parseAllDocuments(readFileSync(0, "utf8"))) {
  result.problems.push(...document.errors.map((error) => error.message));
  const object = document.toJS();
  if (object === null) continue;
  result.objects.push(object);
  if (!object.kind) continue; // rules or a configuration, to be read alone
  for (const problem of await problemsOf(object)) result.problems.push(`${object.kind} ${object.metadata.name}: ${problem}`);
}
console.log(JSON.stringify(result));
