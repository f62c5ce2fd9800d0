-- The sample app: an online shop with two years of orders. The same seed always generates the same rows.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT setseed(0.42) \g /dev/null

CREATE TABLE customers (
  id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name       text NOT NULL,
  email      text NOT NULL UNIQUE,
  city       text NOT NULL,
  created_at timestamptz NOT NULL
);

CREATE TABLE products (
  id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sku         text NOT NULL UNIQUE,
  title       text NOT NULL,
  price_cents integer NOT NULL CHECK (price_cents > 0)
);

CREATE TABLE orders (
  id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer_id integer NOT NULL,
  state       text NOT NULL CHECK (state IN ('paid', 'shipped', 'delivered', 'returned')),
  placed_at   timestamptz NOT NULL
);

CREATE TABLE order_lines (
  order_id    integer NOT NULL,
  line        smallint NOT NULL,
  product_id  integer NOT NULL,
  quantity    smallint NOT NULL CHECK (quantity > 0),
  price_cents integer NOT NULL,
  PRIMARY KEY (order_id, line)
);

CREATE TABLE events (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer_id integer NOT NULL,
  happened_at timestamptz NOT NULL,
  kind        text NOT NULL,
  details     jsonb NOT NULL
);

INSERT INTO customers (name, email, city, created_at)
SELECT first || ' ' || last,
       lower(first) || '.' || lower(last) || '.' || n || '@example.com',
       (ARRAY['Berlin', 'Köln', 'Kraków', 'Lyon', 'Malmö', 'Paris', 'Porto', 'Wien'])[1 + floor(random() * 8)::int],
       timestamptz '2024-11-01 00:00+00' + n * interval '19 minutes'
FROM (
  SELECT n,
         (ARRAY['Ada', 'Alan', 'Barbara', 'Dennis', 'Edsger', 'Frances', 'Grace', 'Ken', 'Niklaus', 'Radia'])
           [1 + floor(random() * 10)::int] AS first,
         (ARRAY['Allen', 'Dijkstra', 'Hopper', 'Liskov', 'Lovelace', 'Perlman', 'Ritchie', 'Thompson', 'Turing', 'Wirth'])
           [1 + floor(random() * 10)::int] AS last
  FROM generate_series(1, 50000) AS n
) AS people;

INSERT INTO products (sku, title, price_cents)
SELECT 'SKU-' || lpad(n::text, 6, '0'),
       (ARRAY['Walnut', 'Oak', 'Steel', 'Linen', 'Wool', 'Glass'])[1 + floor(random() * 6)::int] || ' '
         || (ARRAY['table', 'lamp', 'chair', 'shelf', 'blanket', 'mirror', 'clock'])[1 + floor(random() * 7)::int],
       199 + floor(random() * 50000)::int
FROM generate_series(1, 2000) AS n;

INSERT INTO orders (customer_id, state, placed_at)
SELECT 1 + floor(random() * 50000)::int,
       (ARRAY['paid', 'shipped', 'delivered', 'delivered', 'delivered', 'returned'])[1 + floor(random() * 6)::int],
       timestamptz '2024-11-01 00:00+00' + n * interval '2.5 minutes'
FROM generate_series(1, 400000) AS n;

INSERT INTO order_lines (order_id, line, product_id, quantity, price_cents)
SELECT orders.id, line, products.id, 1 + floor(random() * 4)::int, products.price_cents
FROM orders
CROSS JOIN generate_series(1, 3) AS line
JOIN products ON products.id = 1 + (orders.id * 7919::bigint + line * 104729) % 2000
WHERE line = 1 OR (orders.id + line) % 3 > 0
ORDER BY orders.id, line;

INSERT INTO events (customer_id, happened_at, kind, details)
SELECT 1 + floor(random() * 50000)::int,
       timestamptz '2024-11-01 00:00+00' + n * interval '75 seconds',
       kind,
       jsonb_build_object('page', '/' || kind || '/' || floor(random() * 2000)::int, 'session', md5(random()::text))
FROM (
  SELECT n, (ARRAY['view', 'view', 'view', 'search', 'cart', 'checkout'])[1 + floor(random() * 6)::int] AS kind
  FROM generate_series(1, 800000) AS n
) AS clicks;

CREATE INDEX ON orders (customer_id);
CREATE INDEX ON orders (placed_at);
CREATE INDEX ON order_lines (product_id);
CREATE INDEX ON events (customer_id, happened_at);
CREATE INDEX ON events (kind, happened_at);
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE order_lines ADD FOREIGN KEY (order_id) REFERENCES orders;
ALTER TABLE order_lines ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE events ADD FOREIGN KEY (customer_id) REFERENCES customers;
CREATE VIEW revenue_by_city AS
  SELECT city, sum(quantity * price_cents) / 100 AS revenue
  FROM customers JOIN orders ON customer_id = customers.id JOIN order_lines ON order_id = orders.id
  GROUP BY city;
ANALYZE;
