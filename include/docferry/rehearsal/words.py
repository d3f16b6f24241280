"""The words that the shop's documents are made of. Their order is part of what a seed makes."""

# fmt: off
FIRST_NAMES = (
    "Ada", "Alan", "Amira", "Ana", "Björn", "Carlos", "Chen", "Chloé", "Dmitri", "Elif", "Emma", "Fatima", "Grace",
    "Hana", "Hiro", "Ingrid", "Ivan", "Jakub", "Jane", "John", "José", "Kofi", "Lars", "Leila", "Liam", "Lucía",
    "Maria", "Mei", "Mohammed", "Nadia", "Noah", "Olga", "Omar", "Priya", "Ravi", "Sakura", "Siobhán", "Sofia",
    "Thabo", "Zoë",
)
LAST_NAMES = (
    "Adeyemi", "Andersson", "Bauer", "Brown", "Costa", "Doe", "Dubois", "Fernández", "García", "Haddad", "Hansen",
    "Ivanova", "Johnson", "Kaya", "Kim", "Kowalski", "Lee", "Lovelace", "Müller", "Nakamura", "Nguyen", "Novák",
    "Okafor", "O'Neill", "Patel", "Popescu", "Rossi", "Sato", "Silva", "Smith", "Tanaka", "Wang", "Yılmaz",
)
PLACES = (
    ("Seattle", "WA", "981"), ("Portland", "OR", "972"), ("San Francisco", "CA", "941"), ("Los Angeles", "CA", "900"),
    ("San Diego", "CA", "921"), ("Phoenix", "AZ", "850"), ("Denver", "CO", "802"), ("Austin", "TX", "787"),
    ("Dallas", "TX", "752"), ("Houston", "TX", "770"), ("Chicago", "IL", "606"), ("Detroit", "MI", "482"),
    ("Columbus", "OH", "432"), ("Atlanta", "GA", "303"), ("Miami", "FL", "331"), ("Charlotte", "NC", "282"),
    ("Nashville", "TN", "372"), ("Philadelphia", "PA", "191"), ("New York", "NY", "100"), ("Boston", "MA", "021"),
    ("Baltimore", "MD", "212"), ("Minneapolis", "MN", "554"), ("Kansas City", "MO", "641"), ("Omaha", "NE", "681"),
    ("Boise", "ID", "837"), ("Salt Lake City", "UT", "841"), ("Las Vegas", "NV", "891"), ("Tucson", "AZ", "857"),
    ("Albuquerque", "NM", "871"), ("Tulsa", "OK", "741"), ("New Orleans", "LA", "701"), ("Memphis", "TN", "381"),
)
"""City, state, and the first digits of a zip code."""
STREETS = (
    "Main St", "Oak Ave", "Maple Dr", "Cedar Ln", "Pine St", "Lake Rd", "Hill St", "Park Ave", "Washington Blvd",
    "2nd Ave",
)
ADDRESS_TYPES = (
    "home", "work", "billing", "shipping", "home",
)
"""'home' twice: some users have two of a kind, whose keys would collide without an index in them."""
USER_STATUSES = ("active",) * 16 + ("inactive", "inactive", "suspended", "pending")
ORDER_STATUSES = (
    "pending", "confirmed", "processing", "packed", "shipped", "delivered", "returned", "refunded", "cancelled",
    "failed",
)
"""Chosen evenly: the playbook's STATUS# partitions stay small enough for an emulator whose queries walk them whole."""
NOUNS = (
    "Lamp", "Chair", "Desk", "Kettle", "Backpack", "Jacket", "Headphones", "Notebook", "Mug", "Bicycle", "Tent",
    "Camera", "Keyboard", "Blanket",
)
ADJECTIVES = (
    "Compact", "Classic", "Nordic", "Foldable", "Wireless", "Organic", "Vintage", "Heavy-duty", "Slim", "Recycled",
)
COLOURS = (
    "black", "white", "red", "green", "blue", "oak", "steel",
)
TAGS = (
    "new", "sale", "bestseller", "eco", "gift", "outdoor", "office", "kitchen",
)
CURRENCIES = ("USD",) * 8 + ("EUR", "GBP")
