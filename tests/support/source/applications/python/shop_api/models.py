"""The catalog, by mongoengine."""

from mongoengine import DateTimeField, DecimalField, Document, ObjectIdField, Q, StringField


class Product(Document):
    meta = {"collection": "products"}

    sku = StringField(required=True)
    name = StringField()
    category = ObjectIdField(db_field="categoryId")
    price = DecimalField()
    updated = DateTimeField(db_field="updatedAt")


class Categories(Document):
    slug = StringField(primary_key=False)
    name = StringField()


class BlogPost(Document):
    title = StringField()


def product(sku):
    return Product.objects(sku=sku).first()  # P35


def in_category(category_id):
    return Product.objects(category=category_id).order_by("name")  # P36


def dear(least):
    return Product.objects.filter(Q(price__gt=least) | Q(name="sale")).count()  # P37


def reprice(category_id, price):
    Product.objects(category=category_id).update(set__price=price)  # P38


def add(sku, name):
    Product(sku=sku, name=name).save()  # P39


def posts():
    return [post.title for post in BlogPost.objects]  # P40
