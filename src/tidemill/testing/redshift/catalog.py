"""The system tables, views and functions that the emulator adds to a database, in a schema of their own.

Pages "STL_LOAD_ERRORS", "STL_LOADERROR_DETAIL", "SYS_LOAD_ERROR_DETAIL", "SVV_REDSHIFT_COLUMNS", "PG_TABLE_DEF",
"STV_SLICES", "PG_CLASS_INFO", "SVV_EXTERNAL_SCHEMAS", "PG_LAST_COPY_ID", "PG_LAST_COPY_COUNT".

What Redshift knows of a column and PostgreSQL does not (encoding, keys of distribution and order) is in the column's
comment, so that it goes where the column goes.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

SCHEMA = "redshift_system"
#: What a statement may name without a schema, or in pg_catalog.
RELATIONS = frozenset(
    ("stl_load_errors", "stl_loaderror_detail", "sys_load_error_detail", "svv_redshift_columns", "pg_table_def",
     "stv_slices", "svv_external_schemas", "stl_load_commits", "svv_table_info", "pg_class_info")
)  # fmt: skip
FUNCTIONS = frozenset(
    ("pg_last_copy_id", "pg_last_copy_count", "from_hex", "json_parse", "json_serialize", "getdate", "len", "nvl")
)
#: Numbers in the order of COPY commands.
_ERRORS = """
CREATE TABLE redshift_system.stl_load_errors (
    userid int, slice int, tbl int, starttime timestamp, session int, query bigint, filename char(256),
    line_number bigint, colname char(127), type char(10), col_length char(10), position int, raw_line char(1024),
    raw_field_value char(1024), err_code int, err_reason char(100), is_partial int, start_offset bigint,
    copy_job_id bigint
);
CREATE VIEW redshift_system.stl_loaderror_detail AS
    SELECT userid, slice, session, query, filename, line_number, 0 AS field, colname, raw_field_value AS value,
        0 AS is_null, type, col_length FROM redshift_system.stl_load_errors;
CREATE VIEW redshift_system.sys_load_error_detail AS
    SELECT userid AS user_id, query AS query_id, 0::bigint AS transaction_id, session AS session_id,
        current_database()::char(64) AS database_name, tbl AS table_id, starttime AS start_time,
        filename AS file_name, line_number, colname AS column_name, type AS column_type,
        col_length AS column_length, position, err_code AS error_code, err_reason::char(512) AS error_message
    FROM redshift_system.stl_load_errors;
CREATE TABLE redshift_system.stl_load_commits (
    userid int, query bigint, slice int, name int, filename char(256), byte_offset int, lines_scanned int,
    errors int, curtime timestamp, status int, file_format char(16), is_partial int, start_offset bigint,
    copy_job_id bigint
);
"""
_COLUMNS = """
CREATE FUNCTION redshift_system.noted(relation oid, number int) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN col_description(relation, number) LIKE '{%' THEN col_description(relation, number)::json
        ELSE '{}'::json END
$$;
CREATE FUNCTION redshift_system.redshift_type(declared json, postgres text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE postgres WHEN 'jsonb' THEN 'super' WHEN 'bytea' THEN coalesce(declared->>'type', 'varbyte')
        ELSE postgres END
$$;
CREATE VIEW redshift_system.svv_redshift_columns AS
    SELECT current_database()::varchar(128) AS database_name, n.nspname::varchar(128) AS schema_name,
        c.relname::varchar(128) AS table_name, a.attname::varchar(128) AS column_name,
        a.attnum::int AS ordinal_position,
        redshift_system.redshift_type(redshift_system.noted(c.oid, a.attnum),
            format_type(a.atttypid, a.atttypmod))::varchar(32) AS data_type,
        pg_get_expr(d.adbin, d.adrelid)::varchar(4000) AS column_default,
        (CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END)::varchar(3) AS is_nullable,
        coalesce(redshift_system.noted(c.oid, a.attnum)->>'encode', 'none')::varchar(128) AS encoding,
        coalesce((redshift_system.noted(c.oid, a.attnum)->>'distkey')::boolean, false) AS distkey,
        coalesce((redshift_system.noted(c.oid, a.attnum)->>'sortkey')::int, 0) AS sortkey,
        NULL::varchar(128) AS column_acl, NULL::varchar(256) AS remarks
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'redshift_system', 'pg_toast')
        AND n.nspname NOT LIKE 'pg_temp%';
CREATE VIEW redshift_system.pg_table_def AS
    SELECT n.nspname AS schemaname, c.relname AS tablename, a.attname AS column,
        redshift_system.redshift_type(redshift_system.noted(c.oid, a.attnum),
            format_type(a.atttypid, a.atttypmod)) AS type,
        coalesce(redshift_system.noted(c.oid, a.attnum)->>'encode', 'none') AS encoding,
        coalesce((redshift_system.noted(c.oid, a.attnum)->>'distkey')::boolean, false) AS distkey,
        coalesce((redshift_system.noted(c.oid, a.attnum)->>'sortkey')::int, 0) AS sortkey, a.attnotnull AS notnull
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND pg_table_is_visible(c.oid)
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'redshift_system', 'pg_toast');
CREATE VIEW redshift_system.svv_table_info AS
    SELECT current_database()::text AS database, n.nspname::text AS schema, c.oid::int AS table_id,
        c.relname::text AS table,
        coalesce(CASE WHEN obj_description(c.oid, 'pg_class') LIKE '{%'
            THEN obj_description(c.oid, 'pg_class')::json->>'diststyle' END, 'AUTO(ALL)') AS diststyle
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'redshift_system', 'pg_toast');
CREATE VIEW redshift_system.pg_class_info AS
    SELECT c.oid AS reloid, c.relname, c.relnamespace, s.number AS reldiststyle,
        CASE s.number WHEN 9 THEN 10 ELSE s.number END AS releffectivediststyle
    FROM pg_class c
        JOIN redshift_system.svv_table_info i ON i.table_id = c.oid::int
        CROSS JOIN LATERAL (SELECT CASE split_part(i.diststyle, '(', 1)
            WHEN 'EVEN' THEN 0 WHEN 'KEY' THEN 1 WHEN 'ALL' THEN 8 ELSE 9 END AS number) s;
CREATE TABLE redshift_system.stv_slices (node int, slice int, localslice int, type char(1));
CREATE TABLE redshift_system.svv_external_schemas (
    esoid int GENERATED ALWAYS AS IDENTITY, eskind smallint, schemaname name, esowner int, databasename text,
    esoptions text
);
"""
#: `guard` keeps what PostgreSQL would not: lengths are of bytes.
_FUNCTIONS = """
CREATE FUNCTION redshift_system.guard(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE found record; bytes int; named text;
BEGIN
    FOR found IN SELECT a.attname, a.attnum, a.atttypmod, a.atttypid,
            redshift_system.noted(a.attrelid, a.attnum)->>'type' AS declared
        FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype, 'text'::regtype, 'bytea'::regtype)
    LOOP
        named := 'redshift_bytes_' || found.attnum;
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', relation, named);
        IF found.atttypid = 'bytea'::regtype THEN
            bytes := coalesce(substring(found.declared from '\\d+')::int, 64000);
        ELSIF found.atttypmod < 0 THEN
            bytes := 65535;
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE varchar(65535)', relation, found.attname);
        ELSE
            bytes := found.atttypmod - 4;
        END IF;
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (octet_length(%I) <= %s)', relation, named,
            found.attname, bytes);
    END LOOP;
END $$;
CREATE FUNCTION redshift_system.lay(relation regclass, style text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE known text := obj_description(relation, 'pg_class');
BEGIN
    known := (CASE WHEN known LIKE '{%' THEN known::jsonb ELSE '{}'::jsonb END
        || jsonb_build_object('diststyle', style))::text;
    EXECUTE format('COMMENT ON TABLE %s IS %L', relation, known);
END $$;
CREATE FUNCTION redshift_system.pg_last_copy_id() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(nullif(current_setting('redshift.copy_id', true), ''), '-1')::bigint
$$;
CREATE FUNCTION redshift_system.pg_last_copy_count() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(nullif(current_setting('redshift.copy_count', true), ''), '0')::bigint
$$;
CREATE FUNCTION redshift_system.from_hex(hex text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT decode(hex, 'hex')
$$;
CREATE FUNCTION redshift_system.json_parse(given text) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT given::jsonb
$$;
CREATE FUNCTION redshift_system.json_serialize(given jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT given::text
$$;
CREATE FUNCTION redshift_system.getdate() RETURNS timestamp LANGUAGE sql STABLE AS $$
    SELECT date_trunc('second', now() AT TIME ZONE 'UTC')
$$;
CREATE FUNCTION redshift_system.len(given text) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT length(given)
$$;
CREATE FUNCTION redshift_system.nvl(one anyelement, other anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(one, other)
$$;
"""


def statements(slices: int) -> str:
    """All of it, as one text: it is there whole, or not at all."""
    made = f"INSERT INTO redshift_system.stv_slices SELECT 0, n, n, 'D' FROM generate_series(0, {slices - 1}) n"
    return f"CREATE SCHEMA redshift_system;{_ERRORS}{_COLUMNS}{_FUNCTIONS}{made}"
