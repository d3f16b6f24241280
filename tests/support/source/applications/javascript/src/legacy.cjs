const MongoClient = require('mongodb').MongoClient;

module.exports.migrate = (uri, done) => {
  MongoClient.connect(uri).then((client) => {
    const db = client.db('myapp');
    db.collection('products').updateMany({ price: null }, { $set: { price: 0 } }).then(done); // J40
  });
};
