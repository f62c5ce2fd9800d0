-- A shop's database of about 1 GB on disk: rows and indexes, and keys between five tables.
-- The same seed always makes the same rows.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT setseed(0.42) \g /dev/null

CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, email text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE products (id integer PRIMARY KEY, sku text NOT NULL, title text NOT NULL, price_cents integer NOT NULL);
CREATE TABLE orders (
  id integer PRIMARY KEY, customer_id integer NOT NULL, state text NOT NULL, placed_at timestamptz NOT NULL
);
CREATE TABLE order_lines (
  order_id integer NOT NULL, line smallint NOT NULL, product_id integer NOT NULL, quantity smallint NOT NULL,
  price_cents integer NOT NULL, PRIMARY KEY (order_id, line)
);
CREATE TABLE events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id integer NOT NULL, happened_at timestamptz NOT NULL,
  kind text NOT NULL, details jsonb NOT NULL
);

INSERT INTO customers
SELECT n, 'Customer ' || md5(n::text), md5((n * 7)::text) || '@example.com', timestamptz '2024-11-01' + n * interval '3 min'
FROM generate_series(1, 300000) AS n;

INSERT INTO products
SELECT n, 'SKU-' || lpad(n::text, 6, '0'), md5(n::text), 199 + n % 50000 FROM generate_series(1, 20000) AS n;

INSERT INTO orders
SELECT n, 1 + floor(random() * 300000)::int, (ARRAY['paid', 'shipped', 'delivered', 'returned'])[1 + n % 4],
       timestamptz '2024-11-01' + n * interval '40 s'
FROM generate_series(1, 1400000) AS n;

INSERT INTO order_lines
SELECT n, line, 1 + floor(random() * 20000)::int, 1 + n % 4, 199 + n % 50000
FROM generate_series(1, 1400000) AS n, generate_series(1, 3) AS line;

INSERT INTO events (customer_id, happened_at, kind, details)
SELECT 1 + floor(random() * 300000)::int, timestamptz '2024-11-01' + n * interval '25 s',
       (ARRAY['view', 'search', 'cart', 'checkout'])[1 + n % 4],
       jsonb_build_object('page', '/' || n % 20000, 'session', md5(random()::text))
FROM generate_series(1, 2200000) AS n;

CREATE UNIQUE INDEX ON customers (email);
CREATE UNIQUE INDEX ON products (sku);
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON orders (placed_at);
CREATE INDEX ON order_lines (product_id);
CREATE INDEX ON events (customer_id, happened_at);
CREATE INDEX ON events (kind, happened_at);
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE order_lines ADD FOREIGN KEY (order_id) REFERENCES orders;
ALTER TABLE order_lines ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE events ADD FOREIGN KEY (customer_id) REFERENCES customers;
ANALYZE;
