import mongoose, { Schema, model, models } from 'mongoose';

const productSchema = new Schema({
  sku: { type: String, unique: true },
  name: String,
  categoryId: Schema.Types.ObjectId,
  price: mongoose.Schema.Types.Decimal128,
});

export const Product = models.Product || model('Product', productSchema);

const categorySchema = new mongoose.Schema({ slug: String, name: String }, { collection: 'categories' });
export default mongoose.model('ShopCategory', categorySchema);

export const Person = mongoose.model('Person', new Schema({ name: String }));
