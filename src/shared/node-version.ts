/** Stops an old Node with one clear sentence. Imported before anything else, because later imports would not load. */
const WANTED = 24;

const major = Number(process.versions.node.split('.')[0]);
if (major < WANTED) {
  process.stderr.write(
    `dane-relay: needs Node.js ${WANTED} or newer and this is ${process.versions.node}; run ./dane-relay, which finds the one that "npm ci" brought\n`,
  );
  process.exit(3);
}
