-- SPDX-License-Identifier: GPL-3.0-or-later
-- What the clusters held of which pg_dumpall --globals-only wrote postgres-15.sql, postgres-17.sql and postgres-18.sql
-- (in containers of their own that are long gone, and their passwords with them). The last grant needs 16 or later.

CREATE ROLE plain;
CREATE ROLE app LOGIN PASSWORD 's3cret;''x' CREATEDB CONNECTION LIMIT 7 VALID UNTIL '2030-01-02 03:04:05+00';
CREATE ROLE "Größe ; ""q"" 'x'" NOINHERIT CREATEROLE;
CREATE ROLE "a
b" BYPASSRLS REPLICATION;
CREATE ROLE "select" ; CREATE ROLE reader; CREATE ROLE granter CREATEROLE;
CREATE ROLE "-- no comment"; CREATE ROLE "\restrict"; CREATE ROLE "md5";
SET password_encryption='md5'; ALTER ROLE md5 PASSWORD 'old'; RESET password_encryption;
ALTER ROLE app SET search_path TO shop, "A b", public;
ALTER ROLE app SET application_name TO E'a;b\n''c''\\d';
ALTER ROLE app SET "my.setting" TO 'GRANT "x" TO y;';
ALTER ROLE ALL SET statement_timeout = '5min';
COMMENT ON ROLE app IS E'line one;\nCREATE ROLE evil;\n-- it''s "quoted" \\ back';
COMMENT ON ROLE "Größe ; ""q"" 'x'" IS 'ä';
GRANT reader TO app;
GRANT reader TO "Größe ; ""q"" 'x'" WITH ADMIN OPTION;
GRANT plain TO granter WITH ADMIN OPTION;
SET ROLE granter; GRANT plain TO "select"; RESET ROLE;
GRANT pg_read_all_data TO reader;
GRANT app TO "a
b";
GRANT SET ON PARAMETER log_statement TO reader;
GRANT ALTER SYSTEM ON PARAMETER "my.setting" TO app WITH GRANT OPTION;
SET ROLE granter; GRANT plain TO "a
b"; RESET ROLE;
SET ROLE app; GRANT ALTER SYSTEM ON PARAMETER "my.setting" TO reader; RESET ROLE;
GRANT SET ON PARAMETER log_statement TO PUBLIC;
CREATE TABLESPACE "fast ; Disk" OWNER app LOCATION '/tmp/ts';
GRANT CREATE ON TABLESPACE "fast ; Disk" TO reader;
COMMENT ON TABLESPACE "fast ; Disk" IS 'CREATE ROLE x;';
GRANT reader TO md5 WITH INHERIT FALSE, SET FALSE, ADMIN TRUE;
