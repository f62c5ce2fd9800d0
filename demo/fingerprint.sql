-- One line for each table: its name, how many rows, and a hash over all of them that does not depend on their order;
-- then one line for what is not rows: indexes, constraints, views, and where the sequences stand.
\set ON_ERROR_STOP on
SELECT string_agg(
         format('SELECT %L, count(*), to_hex(mod(coalesce(sum(hashtextextended(t::text, 0)), 0), 2^62::numeric)::bigint) FROM %I AS t',
                tablename, tablename),
         ' UNION ALL ' ORDER BY tablename) || ' ORDER BY 1'
FROM pg_tables WHERE schemaname = 'public' \gexec

SELECT '(definitions)', count(*), left(md5(string_agg(definition, ';' ORDER BY definition)), 16)
FROM (
  SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
  UNION ALL
  SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
  UNION ALL
  SELECT viewname || ' ' || definition FROM pg_views WHERE schemaname = 'public'
  UNION ALL
  SELECT sequencename || ' ' || last_value FROM pg_sequences WHERE schemaname = 'public'
) AS everything (definition);
