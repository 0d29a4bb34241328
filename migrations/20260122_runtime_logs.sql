-- The append-only tables: what happened, what risk decided, what operators did, what the ledger holds.
--
-- Update, delete and truncate are refused by triggers, for the owner as for anybody else. The three logs are
-- partitioned by month, so that old months leave by being detached and archived, without a delete.

-- Identity columns on partitioned tables came with PostgreSQL 17; the sequence works on all.
create sequence if not exists bot_runtime.log_ids;

create table if not exists bot_runtime.bot_events (
  id          bigint not null default nextval('bot_runtime.log_ids'),
  recorded_at timestamptz not null default clock_timestamp(),
  bot_id      uuid not null,
  kind        text not null,
  level       text not null default 'info' check (level in ('debug', 'info', 'warning', 'error', 'critical')),
  payload     jsonb not null default '{}' check (jsonb_typeof(payload) = 'object'),
  key         text,
  epoch       bigint,
  at          timestamptz not null default clock_timestamp(),
  primary key (bot_id, recorded_at, id)
) partition by range (recorded_at);
comment on table bot_runtime.bot_events is
  'What happened, as the runtime told it. Append-only. Retention: 13 months on line, then the month''s partition is '
  'detached and archived.';

create table if not exists bot_runtime.risk_decisions (
  id              bigint not null default nextval('bot_runtime.log_ids'),
  recorded_at     timestamptz not null default clock_timestamp(),
  bot_id          uuid not null,
  proposal_id     text not null,
  strategy        text,
  symbol          text,
  bar_open        timestamptz,
  purpose         text,
  verdict         text not null check (verdict in ('approved', 'refused')),
  rule            text,
  detail          text,
  client_order_id text,
  epoch           bigint,
  primary key (bot_id, recorded_at, id)
) partition by range (recorded_at);
comment on table bot_runtime.risk_decisions is
  'What risk approved and refused, and by which rule. Append-only. Retention: seven years, the last 13 months on line.';

create table if not exists bot_runtime.audit_log (
  id          bigint not null default nextval('bot_runtime.log_ids'),
  recorded_at timestamptz not null default clock_timestamp(),
  operator    text not null,
  role        text not null,
  action      text not null,
  bot_id      uuid,
  detail      jsonb not null default '{}' check (jsonb_typeof(detail) = 'object'),
  primary key (recorded_at, id)
) partition by range (recorded_at);
create index if not exists audit_log_bot_id_recorded_at_idx on bot_runtime.audit_log (bot_id, recorded_at desc);
comment on table bot_runtime.audit_log is
  'What operators did. Append-only. Retention: seven years, the last 24 months on line.';

create table if not exists bot_runtime.ledger_accounts (
  id         text primary key,
  currency   text not null,
  name       text,
  created_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.ledger_accounts is 'Accounts of the double-entry ledger. Retention: for good.';

create table if not exists bot_runtime.ledger_postings (
  id       bigint generated always as identity primary key,
  entry_id uuid not null,
  account  text not null references bot_runtime.ledger_accounts (id),
  amount   numeric not null check (amount <> 0),
  currency text not null,
  at       timestamptz not null default clock_timestamp()
);
create index if not exists ledger_postings_account_idx on bot_runtime.ledger_postings (account);
create index if not exists ledger_postings_entry_id_idx on bot_runtime.ledger_postings (entry_id);
comment on table bot_runtime.ledger_postings is
  'Postings: the amounts of one entry sum to zero in each currency. Append-only. Retention: ten years, never edited.';

create or replace function bot_runtime.refuse_change() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception using errcode = 'restrict_violation',
    message = format('%I.%I is append-only', tg_table_schema, tg_table_name),
    detail = format('%s refused', lower(tg_op)),
    hint = 'Detach and archive old partitions; rows are never edited.';
end $$;
comment on function bot_runtime.refuse_change() is 'Refuses update, delete and truncate, whoever asks.';

-- A row trigger on a partitioned table is cloned to its partitions by PostgreSQL, and a partition that is detached
-- loses the clone: so each has one of its own, under another name. One on truncate is not cloned at all, and truncating
-- a partition by its own name would pass by the parent's.
create or replace function bot_runtime.make_append_only(p_table regclass, p_partition boolean) returns void
language plpgsql set search_path = '' as $$
declare
  v_name constant text := case when p_partition then 'append_only_detached' else 'append_only' end;
begin
  execute format('drop trigger if exists %I on %s', v_name, p_table);
  execute format('create trigger %I before update or delete on %s
                  for each row execute function bot_runtime.refuse_change()', v_name, p_table);
  execute format('drop trigger if exists append_only_truncate on %s', p_table);
  execute format('create trigger append_only_truncate before truncate on %s
                  for each statement execute function bot_runtime.refuse_change()', p_table);
end $$;
comment on function bot_runtime.make_append_only(regclass, boolean) is
  'Puts the triggers on a table, or on a partition, whose own row trigger stays with it when it is detached.';

create or replace function bot_runtime.add_partition(p_log text, p_name text, p_bounds text) returns boolean
language plpgsql set search_path = '' as $$
begin
  if to_regclass('bot_runtime.' || p_name) is not null then
    return false;
  end if;
  execute format('create table bot_runtime.%I partition of bot_runtime.%I %s', p_name, p_log, p_bounds);
  execute format('alter table bot_runtime.%I enable row level security', p_name);
  execute format('comment on table bot_runtime.%I is %L', p_name, format('Part of %s; its retention holds.', p_log));
  perform bot_runtime.make_append_only(format('bot_runtime.%I', p_name)::regclass, true);
  return true;
exception when check_violation then
  -- Nobody made the month's partition in time, its rows are in the default one and stay there.
  raise notice 'no partition %: its rows are in the default partition', p_name;
  return false;
end $$;
comment on function bot_runtime.add_partition(text, text, text) is
  'Makes one partition of a log unless it is there; false when it is, or can''t be made any more.';

create or replace function bot_runtime.add_partitions(p_months integer) returns integer
language plpgsql set search_path = '' as $$
declare
  v_log   text;
  v_first timestamp;
  v_made  integer := 0;
begin
  if p_months is null or p_months not between 1 and 240 then
    raise exception using errcode = 'invalid_parameter_value', message = 'add_partitions takes 1 to 240 months';
  end if;
  foreach v_log in array array['bot_events', 'risk_decisions', 'audit_log'] loop
    v_made := v_made + bot_runtime.add_partition(v_log, v_log || '_default', 'default')::integer;
    for v_month in -1 .. p_months - 2 loop
      v_first := date_trunc('month', clock_timestamp() at time zone 'UTC') + make_interval(months => v_month);
      v_made := v_made + bot_runtime.add_partition(v_log, v_log || to_char(v_first, '_YYYY_MM'), format(
        'for values from (%L) to (%L)',
        to_char(v_first, 'YYYY-MM-DD"T00:00:00Z"'),
        to_char(v_first + interval '1 month', 'YYYY-MM-DD"T00:00:00Z"')))::integer;
    end loop;
  end loop;
  return v_made;
end $$;
comment on function bot_runtime.add_partitions(integer) is
  'Makes the monthly partitions of the three logs from last month on, and a default one each; returns how many it made.'
  ' The owner calls it once a year at least; a row of a month without a partition goes to the default one.';

select bot_runtime.add_partitions(24);
select bot_runtime.make_append_only(name::regclass, false)
  from unnest(array['bot_runtime.bot_events', 'bot_runtime.risk_decisions', 'bot_runtime.audit_log',
                    'bot_runtime.ledger_postings']) as name;

do $$
declare
  v_table regclass;
begin
  for v_table in
    select c.oid from pg_catalog.pg_class c
     where c.relnamespace = 'bot_runtime'::regnamespace and c.relkind in ('r', 'p') and not c.relrowsecurity
  loop
    execute format('alter table %s enable row level security', v_table);
  end loop;
end $$;
revoke all on all tables in schema bot_runtime from public, anon, authenticated, service_role;
revoke all on all sequences in schema bot_runtime from public, anon, authenticated, service_role;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
