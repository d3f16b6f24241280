import { Collection, Db, MongoClient, type ObjectId } from 'mongodb';

interface Order {
  _id: ObjectId;
  userId: ObjectId;
  status: 'pending' | 'paid';
}

export class OrderRepository {
  private readonly orders: Collection<Order>;

  constructor(private readonly db: Db, private readonly archive: Collection<Order>) {
    this.orders = this.db.collection<Order>('orders');
  }

  get(id: ObjectId): Promise<Order | null> {
    return this.orders.findOne({ _id: id }); // J16
  }

  async ofUser(userId: ObjectId, limit = 20) {
    const cursor = this.orders.find({ userId }, { sort: { createdAt: -1 }, limit }); // J17
    return (await cursor.toArray()) as Order[];
  }

  ofStatus = async (status: Order['status']) => this.orders.find({ status }).toArray(); // J18

  async dear(least: number) {
    return this.orders.find({ totalAmount: { $gte: least } }).sort('totalAmount', 'desc').toArray(); // J19
  }

  async totals() {
    return this.orders.aggregate<{ _id: string }>([{ $group: { _id: '$status' } }]).toArray(); // J20
  }

  async replace(order: Order) {
    await this.orders.replaceOne({ _id: order._id }, order, { upsert: true }); // J21
  }

  async keep(order: Order) {
    await this.archive.insertOne(order); // J22
  }

  async load(orders: Order[]) {
    await this.orders.insertMany(orders); // J23
    await this.orders.bulkWrite(orders.map((one) => ({ insertOne: { document: one } }))); // J24
  }
}

export async function pay(client: MongoClient, id: ObjectId) {
  const session = client.startSession(); // J25
  try {
    await session.withTransaction(async () => {
      const orders = client.db('myapp').collection('orders');
      await orders.updateOne({ _id: id }, { $set: { status: 'paid' } }, { session }); // J26
    });
  } finally {
    await session.endSession();
  }
}

export const watchPaid = (db: Db) =>
  db!.collection('orders').watch([{ $match: { 'fullDocument.status': 'paid' } }]); // J27

export async function indexes(db: Db) {
  await db.collection('orders').createIndex({ userId: 1 }); // J28
}
