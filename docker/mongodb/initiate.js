// Initiates the replica set the first time; exits with 0 once this server is its primary. Run by
// mongosh without a connection of its own, so that the password is on no command line.
const { readFileSync } = require("fs");

const password = readFileSync("/run/secrets/mongodb-root-password", "utf8").trim();
const admin = new Mongo(
  `mongodb://root:${encodeURIComponent(password)}@127.0.0.1:27017/?directConnection=true`,
).getDB("admin");

if (admin.hello().setName === undefined) {
  admin.runCommand({
    replSetInitiate: { _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] },
  });
}
// The server that the image first runs, to make the users, is a primary too, but of no set.
const hello = admin.hello();
quit(hello.setName && hello.isWritablePrimary ? 0 : 1);
