-- The tables of the bot runtime, in a schema that no API role may enter.
--
-- The service key bypasses row-level security, so policies alone would protect nothing: what keeps one bot away from
-- another's rows is that the API roles have no privilege here at all, and reach the rows through the functions in
-- `public`, which ask for the runtime's or the operator's token. Row-level security is on nevertheless, against a
-- privilege granted by mistake.
--
-- A bot is never deleted, only made inactive: foreign keys restrict. Logs carry no foreign key, because a log outlives
-- what it speaks of and its partitions are detached and archived by themselves.

create schema if not exists bot_runtime;
revoke all on schema bot_runtime from public, anon, authenticated, service_role;
comment on schema bot_runtime is
  'State of record of the bot runtime. Not exposed through the API; functions in public are the only way in.';

-- ---------------------------------------------------------------------------------------------------- what a bot is
create table if not exists bot_runtime.supported_exchanges (
  id         text primary key check (id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
  name       text not null,
  active     boolean not null default true,
  details    jsonb not null default '{}' check (jsonb_typeof(details) = 'object'),
  created_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.supported_exchanges is
  'Exchanges that the platform offers, and what is known of each. Retention: for good.';

create table if not exists bot_runtime.supported_markets (
  exchange     text not null references bot_runtime.supported_exchanges (id),
  symbol       text not null,
  base         text,
  quote        text,
  price_step   numeric check (price_step > 0),
  amount_step  numeric check (amount_step > 0),
  amount_min   numeric check (amount_min >= 0),
  notional_min numeric check (notional_min >= 0),
  active       boolean not null default true,
  details      jsonb not null default '{}' check (jsonb_typeof(details) = 'object'),
  updated_at   timestamptz not null default clock_timestamp(),
  primary key (exchange, symbol)
);
comment on table bot_runtime.supported_markets is
  'Markets of each exchange with their steps and minima, as far as the platform knows them. Retention: for good.';

create table if not exists bot_runtime.strategies (
  id          uuid primary key default gen_random_uuid(),
  name        text not null,
  definition  jsonb not null check (jsonb_typeof(definition) = 'object'),
  fingerprint text,
  created_at  timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.strategies is
  'Strategy definitions. A changed definition is a new row, so that a bot''s history can be explained. '
  'Retention: for good.';

create table if not exists bot_runtime.bots (
  id                    uuid primary key,
  name                  text not null check (char_length(name) between 1 and 128),
  user_id               text,
  mode                  text not null check (mode in ('paper', 'live')),
  exchange              text not null,
  symbols               text[] not null check (cardinality(symbols) > 0),
  strategy_id           uuid references bot_runtime.strategies (id),
  polling_tier          text not null default 'standard'
                        check (polling_tier in ('fast_5s', 'ultra_15s', 'fast_30s', 'standard')),
  active                boolean not null default true,
  status                text not null default 'created' check (status in ('created', 'running', 'stopped')),
  exchange_options      jsonb not null default '{}' check (jsonb_typeof(exchange_options) = 'object'),
  execution_config      jsonb not null default '{}' check (jsonb_typeof(execution_config) = 'object'),
  settings              jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),
  settings_version      bigint not null default 1,
  controls              jsonb not null default '{"paused": false, "killed": false, "observe_only": false}'
                        check (jsonb_typeof(controls) = 'object'),
  controls_version      bigint not null default 1,
  controls_acknowledged bigint not null default 0,
  flatten_version       bigint,
  created_at            timestamptz not null default clock_timestamp(),
  updated_at            timestamptz not null default clock_timestamp(),
  check (controls_acknowledged <= controls_version),
  check (flatten_version <= controls_version)
);
create index if not exists bots_strategy_id_idx on bot_runtime.bots (strategy_id);
comment on table bot_runtime.bots is
  'One row per bot: what it trades, how, and what its operator wants of it. Its row lock serialises the facts that are '
  'written about one bot. Retention: for good; a bot that is over is made inactive.';
comment on column bot_runtime.bots.status is
  'created, then running while a process owns the bot (the lease says whether that process is still heard of), then '
  'stopped.';
comment on column bot_runtime.bots.flatten_version is
  'Version of the controls that asked to flatten, until that version is acknowledged.';

create table if not exists bot_runtime.api_keys (
  bot_id     uuid primary key references bot_runtime.bots (id),
  exchange   text not null,
  ciphertext text not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.api_keys is
  'Exchange credentials, encrypted before they came here; the key to them is not in this database. '
  'Retention: as long as the bot is active.';

create table if not exists bot_runtime.subscriptions (
  bot_id     uuid primary key references bot_runtime.bots (id),
  status     text not null check (status in ('active', 'inactive', 'past_due', 'trialing', 'canceled')),
  ends_at    timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.subscriptions is
  'Whether somebody pays for the bot. A bot without a row counts as inactive. Retention: for good.';

create table if not exists bot_runtime.strategy_profiles (
  bot_id     uuid primary key references bot_runtime.bots (id),
  overrides  jsonb not null default '{}' check (jsonb_typeof(overrides) = 'object'),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.strategy_profiles is
  'What one bot does differently from its strategy''s definition. Retention: for good.';

create table if not exists bot_runtime.params (
  name       text primary key,
  value      jsonb not null,
  updated_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.params is 'Parameters of the platform itself. Retention: for good.';

-- -------------------------------------------------------------------------------------------- who may write about it
create table if not exists bot_runtime.bot_runtime (
  bot_id             uuid primary key references bot_runtime.bots (id),
  runtime_token_hash bytea unique check (octet_length(runtime_token_hash) = 32),
  token_expires_at   timestamptz,
  former_token_hash  bytea unique check (octet_length(former_token_hash) = 32),
  former_valid_until timestamptz,
  next_token_hash    bytea unique check (octet_length(next_token_hash) = 32),
  next_expires_at    timestamptz,
  ttl_s              integer not null default 2592000 check (ttl_s between 1 and 31536000),
  provider           text,
  region             text,
  machine_id         text,
  epoch              bigint not null default 0 check (epoch >= 0),
  registered_at      timestamptz,
  revoked_at         timestamptz,
  revoke_reason      text,
  created_at         timestamptz not null default clock_timestamp(),
  updated_at         timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.bot_runtime is
  'The runtime registered for a bot: where it runs and the SHA-256 of its tokens, never a token. next_* is a token '
  'that the runtime has announced and not yet used, former_* the one it used before. Retention: for good.';

create table if not exists bot_runtime.bot_leases (
  bot_id     uuid primary key references bot_runtime.bots (id),
  boot_id    text,
  epoch      bigint not null default 0 check (epoch >= 0),
  lease_s    numeric not null default 30 check (lease_s between 0.2 and 600),
  expires_at timestamptz,
  renewals   bigint not null default 0,
  claimed_at timestamptz,
  check ((boot_id is null) = (expires_at is null))
) with (fillfactor = 50);
comment on table bot_runtime.bot_leases is
  'Who owns the bot now: one row per bot, made with the bot; boot_id is null when nobody does. Every renewal rewrites '
  'the row in its page, hence the free space. Retention: for good.';

create table if not exists bot_runtime.sessions (
  bot_id     uuid not null references bot_runtime.bots (id),
  epoch      bigint not null,
  boot_id    text not null,
  started_at timestamptz not null default clock_timestamp(),
  ended_at   timestamptz,
  end_reason text,
  primary key (bot_id, epoch)
);
comment on table bot_runtime.sessions is
  'One row per ownership of a bot, from its claim to its end. Retention: two years.';

create table if not exists bot_runtime.operator_tokens (
  id         uuid primary key default gen_random_uuid(),
  name       text not null check (char_length(name) between 1 and 128),
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  role       text not null check (role in ('admin', 'operator', 'auditor', 'viewer')),
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default clock_timestamp()
);
comment on table bot_runtime.operator_tokens is
  'Who may use the operator functions: name, role and the SHA-256 of the token. Retention: for good.';

-- ------------------------------------------------------------------------------------------------- what the bot holds
create table if not exists bot_runtime.bot_positions (
  bot_id      uuid not null references bot_runtime.bots (id),
  symbol      text not null,
  strategy    text not null,
  position_id text not null,
  status      text not null check (status in ('open', 'closed')),
  qty         numeric,
  entry_price numeric,
  seq         bigint,
  epoch       bigint,
  created_at  timestamptz not null default clock_timestamp(),
  updated_at  timestamptz not null default clock_timestamp(),
  primary key (bot_id, symbol, strategy),
  unique (bot_id, position_id)
) with (fillfactor = 70);
comment on table bot_runtime.bot_positions is
  'The latest position of each symbol and strategy of a bot. Retention: for good; earlier ones are in the log and the '
  'fills.';
comment on column bot_runtime.bot_positions.seq is
  'The account event that made the row so; an event below it can''t change the row any more.';

create table if not exists bot_runtime.bot_trades (
  id                bigint generated always as identity primary key,
  bot_id            uuid not null references bot_runtime.bots (id),
  client_order_id   text,
  exchange_order_id text,
  symbol            text,
  order_status      text,
  filled_qty        numeric not null default 0 check (filled_qty >= 0),
  epoch             bigint,
  created_at        timestamptz not null default clock_timestamp(),
  updated_at        timestamptz not null default clock_timestamp(),
  unique (bot_id, client_order_id),
  unique (bot_id, exchange_order_id),
  check (client_order_id is not null or exchange_order_id is not null)
) with (fillfactor = 70);
create index if not exists bot_trades_bot_id_id_idx on bot_runtime.bot_trades (bot_id, id desc);
comment on table bot_runtime.bot_trades is
  'Orders, one row each, known by the client''s id, the exchange''s, or both. Retention: seven years.';

create table if not exists bot_runtime.bot_fills (
  bot_id            uuid not null references bot_runtime.bots (id),
  symbol            text not null,
  trade_id          text not null,
  client_order_id   text not null,
  exchange_order_id text,
  side              text,
  qty               numeric not null check (qty > 0),
  price             numeric not null check (price > 0),
  fee               numeric,
  fee_asset         text,
  maker             boolean,
  at                timestamptz,
  seq               bigint,
  epoch             bigint,
  recorded_at       timestamptz not null default clock_timestamp(),
  primary key (bot_id, symbol, trade_id)
);
create index if not exists bot_fills_bot_id_at_idx on bot_runtime.bot_fills (bot_id, at desc);
create index if not exists bot_fills_bot_id_client_order_id_idx on bot_runtime.bot_fills (bot_id, client_order_id);
comment on table bot_runtime.bot_fills is
  'Fills as the exchange told them, each once by its trade id. Retention: seven years.';

create table if not exists bot_runtime.bot_state (
  bot_id               uuid primary key references bot_runtime.bots (id),
  heartbeat_at         timestamptz,
  boot_id              text,
  epoch                bigint,
  status               text,
  event                text,
  exchange_sync_status text check (exchange_sync_status in ('ok', 'missing', 'mismatch', 'unknown')),
  equity               numeric,
  cash                 numeric,
  mark_price           numeric,
  unrealized_pnl       numeric,
  in_position          boolean not null default false,
  open_positions       integer not null default 0,
  position_id          text,
  position_symbol      text,
  position_side        text,
  position_qty         numeric,
  position_entry       numeric,
  payload              jsonb not null default '{}' check (jsonb_typeof(payload) = 'object'),
  created_at           timestamptz not null default clock_timestamp(),
  updated_at           timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
comment on table bot_runtime.bot_state is
  'How the bot stood at its last heartbeat; the position columns follow bot_positions by a trigger. '
  'Retention: for good, one row per bot.';

create table if not exists bot_runtime.bot_health_evidence (
  bot_id     uuid primary key references bot_runtime.bots (id),
  evidence   jsonb not null default '{}' check (jsonb_typeof(evidence) = 'object'),
  updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
comment on table bot_runtime.bot_health_evidence is
  'The newest health evidence of each bot. Retention: for good, one row per bot.';

create table if not exists bot_runtime.run_metrics (
  bot_id      uuid not null references bot_runtime.bots (id),
  boot_id     text not null,
  heartbeats  bigint not null default 0,
  first_at    timestamptz not null default clock_timestamp(),
  last_at     timestamptz not null default clock_timestamp(),
  equity_last numeric,
  equity_min  numeric,
  equity_max  numeric,
  primary key (bot_id, boot_id)
) with (fillfactor = 50);
comment on table bot_runtime.run_metrics is
  'Figures of one run of a bot, gathered from its heartbeats. Retention: two years.';

create table if not exists bot_runtime.cycle_trace (
  bot_id      uuid not null references bot_runtime.bots (id),
  strategy    text not null,
  bar_open    timestamptz not null,
  symbol      text,
  close       numeric,
  proposals   integer,
  outcome     text,
  detail      text,
  equity      numeric,
  epoch       bigint,
  recorded_at timestamptz not null default clock_timestamp(),
  primary key (bot_id, strategy, bar_open)
);
comment on table bot_runtime.cycle_trace is
  'What a strategy made of each bar: why it did or did not trade. Retention: 90 days.';

-- ------------------------------------------------------------------------------------------------- what the bot says
create table if not exists bot_runtime.notifications (
  id         bigint generated always as identity primary key,
  bot_id     uuid not null references bot_runtime.bots (id),
  key        text,
  payload    jsonb not null check (jsonb_typeof(payload) = 'object'),
  at         timestamptz not null default clock_timestamp(),
  read_at    timestamptz,
  unique (bot_id, key)
);
comment on table bot_runtime.notifications is 'Notices shown in the console. Retention: one year.';

create table if not exists bot_runtime.notification_queue (
  id         bigint generated always as identity primary key,
  bot_id     uuid not null references bot_runtime.bots (id),
  channel    text not null,
  key        text,
  payload    jsonb not null check (jsonb_typeof(payload) = 'object'),
  status     text not null default 'queued' check (status in ('queued', 'sent', 'failed')),
  attempts   integer not null default 0,
  at         timestamptz not null default clock_timestamp(),
  sent_at    timestamptz,
  unique (bot_id, channel, key)
);
create index if not exists notification_queue_queued_idx
  on bot_runtime.notification_queue (id) where status = 'queued';
comment on table bot_runtime.notification_queue is
  'Notices to be sent over a channel of their own. Retention: one year.';

create table if not exists bot_runtime.sync_streams (
  bot_id     uuid not null references bot_runtime.bots (id),
  store_id   text not null,
  last_seq   bigint not null default 0,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (bot_id, store_id)
) with (fillfactor = 50);
comment on table bot_runtime.sync_streams is
  'How far each local store''s outbox has been applied. Retention: for good; without the row a store''s entries would '
  'be applied again.';

create table if not exists bot_runtime.dead_letters (
  id          bigint generated always as identity primary key,
  bot_id      uuid not null references bot_runtime.bots (id),
  store_id    text not null,
  seq         bigint not null,
  fn          text,
  key         text,
  args        jsonb,
  reason      text not null,
  at          timestamptz not null default clock_timestamp(),
  status      text not null default 'waiting' check (status in ('waiting', 'retried', 'dropped')),
  resolved_at timestamptz,
  unique (bot_id, store_id, seq)
);
comment on table bot_runtime.dead_letters is
  'Outbox entries that were refused for good, until an operator retries or drops them. Retention: two years after '
  'that.';

create table if not exists bot_runtime.event_keys (
  bot_id      uuid not null references bot_runtime.bots (id),
  key         text not null,
  digest      bytea not null check (octet_length(digest) = 32),
  recorded_at timestamptz not null default clock_timestamp(),
  primary key (bot_id, key)
);
comment on table bot_runtime.event_keys is
  'Keys of the log rows written so far and the SHA-256 of their content: a repeat is known by its key, and a key used '
  'for something else is seen. Retention: as long as the rows they stand for.';

-- --------------------------------------------------------------------------------------- rows that come with others
create or replace function bot_runtime.add_lease() returns trigger
language plpgsql set search_path = '' as $$
begin
  insert into bot_runtime.bot_leases (bot_id) values (new.id) on conflict do nothing;
  return null;
end $$;
comment on function bot_runtime.add_lease() is 'Gives a new bot its lease row: every lock order begins with that row.';

drop trigger if exists add_lease on bot_runtime.bots;
create trigger add_lease after insert on bot_runtime.bots
  for each row execute function bot_runtime.add_lease();

insert into bot_runtime.supported_exchanges (id, name) values
  ('paper', 'Paper exchange'), ('binance', 'Binance'), ('bybit', 'Bybit'), ('okx', 'OKX'), ('kraken', 'Kraken'),
  ('coinbase', 'Coinbase')
on conflict do nothing;

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
