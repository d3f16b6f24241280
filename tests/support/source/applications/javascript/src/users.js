// Users, by the mongodb driver.
const { getCollection, collections, connect } = require('./db');
const { ObjectId } = require('mongodb');

const byName = (username) => getCollection('users').findOne({ username }); // J01

async function byEmail(email) {
  const { users } = await collections();
  return users.findOne({ email }, { projection: { email: 1, status: 1 } }); // J02
}

async function byId(id) {
  const { users: people } = await collections();
  return people.findOne({ _id: new ObjectId(id) }); // J03
}

async function activeIn(city) {
  const db = await connect();
  return db
    .collection('users')
    .find({ 'profile.location.city': city, status: 'active' }) // J04
    .sort({ lastLoginAt: -1 })
    .limit(20)
    .toArray();
}

async function search(text) {
  const users = getCollection('users');
  const found = [];
  for await (const one of users.find({ username: /^a/i })) { // J05
    found.push(one.username);
  }
  return found.find((one) => one === text);
}

async function register(user) {
  const users = getCollection('users');
  const { insertedId } = await users.insertOne({ ...user, createdAt: new Date() }); // J06
  return insertedId;
}

async function visit(username) {
  await getCollection('users').updateOne({ username }, { $inc: { visits: 1 }, $currentDate: { lastLoginAt: true } }); // J07
}

async function tag(username, tags) {
  await getCollection('users').findOneAndUpdate( // J08
    { username },
    { $addToSet: { tags: { $each: tags } } },
    { returnDocument: 'after' },
  );
}

async function relabel(username) {
  const options = { arrayFilters: [{ 'a.type': 'home' }] };
  await getCollection('users').updateOne({ username }, { $set: { 'addresses.$[a].city': 'x' } }, options); // J09
}

async function prune(day) {
  return getCollection('users').deleteMany({ lastLoginAt: { $lt: day } }); // J10
}

async function list(filters) {
  const query = {};
  if (filters.status) query.status = filters.status;
  return getCollection('users').find(query).toArray(); // J11
}

async function some(names) {
  return getCollection('users').find({ username: { $in: names } }).toArray(); // J12
}

async function counts() {
  const users = getCollection('users');
  return Promise.all([users.countDocuments({ email: { $exists: true } }), users.estimatedDocumentCount()]); // J13 J14
}

async function remove(username) {
  return getCollection('users').deleteOne({ username }); // J15
}

module.exports = { byName, byEmail, byId, activeIn, search, register, visit, tag, relabel, prune, list, some, counts, remove };
