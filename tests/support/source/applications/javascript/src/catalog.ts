import Category, { Person, Product as Item } from './models/product';

export const bySku = (sku: string) => Item.findOne({ sku }).lean().exec(); // J29

export const inCategory = async (categoryId: string) =>
  Item.find({ categoryId }).sort('name').select('name price').limit(50); // J30

export const cheap = (price: number) => Item.where('price').lt(price).countDocuments(); // J31

export async function rename(sku: string, name: string) {
  const item = await Item.findOne({ sku }); // J32
  item.name = name;
  await item.save(); // J33
}

export async function reprice(id: string, price: number) {
  return Item.findByIdAndUpdate(id, { price }, { new: true }); // J34
}

export async function add(sku: string) {
  await new Item({ sku, name: 'x' }).save(); // J35
}

export const bySlug = (slug: string) => Category.exists({ slug }); // J36

export const children = (parentId: string) => Category.find().where({ parentId }); // J37

export const names = () => Category.distinct('name'); // J38

export const people = () => Person.find({}); // J39

export function words(list: string[]) {
  const found = list.find((one) => one.length > 3);
  const counts = { count: list.filter(Boolean).length, update: () => list.indexOf('x') };
  counts.update();
  return [found, new Map().get('x'), Object.assign({}, counts)];
}
