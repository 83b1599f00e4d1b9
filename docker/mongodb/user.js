// Run once, when the database is made: the user that the servers connect as. It may read, write
// and follow its own database and nothing else.
const { readFileSync } = require("fs");

db.getSiblingDB("product_match").createUser({
  user: "product_match",
  pwd: readFileSync("/run/secrets/mongodb-password", "utf8").trim(),
  roles: [{ role: "readWrite", db: "product_match" }],
});
