// Connections of the example application.
const { MongoClient } = require('mongodb');

let client;
let db;

async function connect() {
  client = new MongoClient(process.env.MONGODB_URI);
  await client.connect();
  db = client.db('myapp');
  return db;
}

function getCollection(name) {
  return db.collection(name);
}

async function collections() {
  const database = db || (await connect());
  return { users: database.collection('users'), orders: database.collection('orders') };
}

module.exports = { connect, getCollection, collections, getClient: () => client };
