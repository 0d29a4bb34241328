-- The operator's functions: make a bot, see how it stands, steer it, settle what it left open.
--
-- Each asks for an operator token (header x-operator-token) of a sufficient role, which no bot has, and writes what was
-- done to the audit log in the same transaction. What an operator wants of a running bot is a row with a version; the
-- bot reads it with its next heartbeat, carries it out once, and acknowledges the version.

create table if not exists bot_runtime.control_requests (
  bot_id     uuid not null references bot_runtime.bots (id),
  request_id text not null check (char_length(request_id) between 1 and 128),
  action     text not null,
  version    bigint not null,
  operator   text not null,
  at         timestamptz not null default clock_timestamp(),
  primary key (bot_id, request_id)
);
alter table bot_runtime.control_requests enable row level security;
revoke all on bot_runtime.control_requests from public, anon, authenticated, service_role;
comment on table bot_runtime.control_requests is
  'Requests that named themselves, with the version of the controls each has made: a repeat is answered with it and '
  'changes nothing. Retention: two years.';

-- ---------------------------------------------------------------------------------------------------------- helpers
create or replace function bot_runtime.operator_bot(p_bot_id uuid) returns bot_runtime.bots
language plpgsql volatile set search_path = '' as $$
declare
  v_bot bot_runtime.bots;
begin
  if p_bot_id is null then
    perform bot_runtime.invalid('p_bot_id', null, 'missing');
  end if;
  select * into v_bot from bot_runtime.bots where id = p_bot_id;
  if not found then
    perform bot_runtime.refuse('PT404', 'bot_not_found', p_bot_id::text);
  end if;
  return v_bot;
end $$;
comment on function bot_runtime.operator_bot(uuid) is 'The bot that an operator names; refused when there is none.';

create or replace function bot_runtime.operator_bot_locked(p_bot_id uuid) returns bot_runtime.caller
language plpgsql volatile set search_path = '' as $$
declare
  v_lease  bot_runtime.bot_leases;
  v_caller bot_runtime.caller;
begin
  perform bot_runtime.operator_bot(p_bot_id);
  -- The runtime's own order of locks, so that an operator and a bot never wait for each other in a circle.
  select * into v_lease from bot_runtime.bot_leases where bot_id = p_bot_id for key share;
  perform 1 from bot_runtime.bots where id = p_bot_id for no key update;
  v_caller.bot_id := p_bot_id;
  v_caller.epoch := v_lease.epoch;
  v_caller.current_epoch := v_lease.epoch;
  v_caller.holder := v_lease.boot_id;
  return v_caller;
end $$;
comment on function bot_runtime.operator_bot_locked(uuid) is
  'The bot, locked as for one of its facts, and an operator''s standing towards it: present epoch, no boot id.';

create or replace function bot_runtime.operator_text(p_value text, p_name text) returns text
language plpgsql stable set search_path = '' as $$
begin
  if p_value ~ '[[:cntrl:]]' or char_length(p_value) > 500 then
    perform bot_runtime.invalid(p_name, null, 'more than 500 characters, or not one line');
  end if;
  return nullif(btrim(p_value), '');
end $$;
comment on function bot_runtime.operator_text(text, text) is 'Free text of an operator, null when empty.';

create or replace function bot_runtime.controls_json(p_bot bot_runtime.bots) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'version', p_bot.controls_version, 'acknowledged', p_bot.controls_acknowledged,
    'paused', coalesce((p_bot.controls ->> 'paused')::boolean, false),
    'killed', coalesce((p_bot.controls ->> 'killed')::boolean, false),
    'observe_only', coalesce((p_bot.controls ->> 'observe_only')::boolean, false),
    'flatten_version', p_bot.flatten_version)
$$;
comment on function bot_runtime.controls_json(bot_runtime.bots) is
  'What the operator wants of a bot, as operators see it.';

create or replace function bot_runtime.lease_json(p_bot_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'boot_id', boot_id, 'epoch', epoch, 'renewals', renewals, 'lease_s', bot_runtime.as_text(lease_s),
    'expires_at', bot_runtime.utc(expires_at),
    'expires_in_s', bot_runtime.as_text(round(extract(epoch from expires_at - clock_timestamp())::numeric, 3)),
    'held', boot_id is not null and expires_at > clock_timestamp())
    from bot_runtime.bot_leases where bot_id = p_bot_id
$$;
comment on function bot_runtime.lease_json(uuid) is 'Who owns a bot, as operators see it.';

create or replace function bot_runtime.bot_json(p_bot bot_runtime.bots) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'id', p_bot.id, 'name', p_bot.name, 'user_id', p_bot.user_id, 'mode', p_bot.mode, 'exchange', p_bot.exchange,
    'symbols', to_jsonb(p_bot.symbols), 'polling_tier', p_bot.polling_tier, 'active', p_bot.active,
    'status', p_bot.status, 'created_at', bot_runtime.utc(p_bot.created_at),
    'subscription',
      coalesce((select status from bot_runtime.subscriptions where bot_id = p_bot.id), 'inactive'),
    'strategy', (select jsonb_build_object('id', id, 'name', name, 'timeframe', definition ->> 'timeframe',
                                           'fingerprint', fingerprint)
                   from bot_runtime.strategies where id = p_bot.strategy_id),
    'has_credentials', exists (select 1 from bot_runtime.api_keys where bot_id = p_bot.id))
$$;
comment on function bot_runtime.bot_json(bot_runtime.bots) is 'What a bot is, as operators see it; no credentials.';

create or replace function bot_runtime.state_json(p_bot_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'heartbeat_at', bot_runtime.utc(heartbeat_at),
    -- By the database's clock: heartbeat_at is the market's time, which in a replay is another year's.
    'heartbeat_age_s', bot_runtime.as_text(round(extract(epoch from clock_timestamp() - (
      select max(last_at) from bot_runtime.run_metrics m where m.bot_id = p_bot_id))::numeric, 3)),
    'boot_id', boot_id, 'epoch', epoch, 'status', status, 'event', event,
    'exchange_sync_status', exchange_sync_status, 'equity', bot_runtime.as_text(equity),
    'cash', bot_runtime.as_text(cash), 'mark_price', bot_runtime.as_text(mark_price),
    'unrealized_pnl', bot_runtime.as_text(unrealized_pnl), 'in_position', in_position,
    'open_positions', open_positions, 'position_symbol', position_symbol, 'position_side', position_side,
    'position_qty', bot_runtime.as_text(position_qty), 'position_entry', bot_runtime.as_text(position_entry),
    'gate', payload -> 'gate', 'version', payload -> 'version', 'heartbeat_seq', payload -> 'heartbeat_seq')
    from bot_runtime.bot_state where bot_id = p_bot_id
$$;
comment on function bot_runtime.state_json(uuid) is
  'How a bot stood at its last heartbeat, as operators see it.';

create or replace function bot_runtime.positions_json(p_bot_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'position_id', position_id, 'symbol', symbol, 'strategy', strategy, 'status', status,
    'position_side', position_side, 'qty', bot_runtime.as_text(qty),
    'entry_price', bot_runtime.as_text(entry_price), 'mark_price', bot_runtime.as_text(mark_price),
    'unrealized_pnl', bot_runtime.as_text(unrealized_pnl), 'opened_at', bot_runtime.utc(opened_at),
    'updated_at', bot_runtime.utc(updated_at)) order by updated_at desc), '[]')
    from bot_runtime.bot_positions where bot_id = p_bot_id and status = 'open'
$$;
comment on function bot_runtime.positions_json(uuid) is 'The open positions of a bot, the latest changed first.';

create or replace function bot_runtime.orders_json(p_bot_id uuid, p_limit bigint) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'client_order_id', client_order_id, 'exchange_order_id', exchange_order_id, 'status', order_status,
    'event', event, 'side', side, 'qty', bot_runtime.as_text(qty),
    'filled_qty', bot_runtime.as_text(filled_qty), 'avg_price', bot_runtime.as_text(avg_fill_price),
    'symbol', symbol, 'order_type', order_type, 'recorded_at', bot_runtime.utc(created_at)) order by id desc), '[]')
    from (select * from bot_runtime.bot_trades where bot_id = p_bot_id order by id desc limit p_limit) newest
$$;
comment on function bot_runtime.orders_json(uuid, bigint) is 'The newest orders of a bot.';

create or replace function bot_runtime.fills_json(p_bot_id uuid, p_limit bigint) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'trade_id', trade_id, 'client_order_id', client_order_id, 'qty', bot_runtime.as_text(qty),
    'price', bot_runtime.as_text(price), 'fee', bot_runtime.as_text(fee), 'fee_asset', fee_asset,
    'time', bot_runtime.utc(at), 'symbol', symbol, 'side', side) order by at desc nulls last, seq desc nulls last,
    trade_id desc), '[]')
    from (select * from bot_runtime.bot_fills where bot_id = p_bot_id
           order by at desc nulls last, seq desc nulls last, trade_id desc limit p_limit) newest
$$;
comment on function bot_runtime.fills_json(uuid, bigint) is 'The newest fills of a bot.';

create or replace function bot_runtime.row_counts(p_bot_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'bot_runtime', (select count(*) from bot_runtime.bot_runtime where bot_id = p_bot_id),
    'bot_leases', (select count(*) from bot_runtime.bot_leases where bot_id = p_bot_id),
    'bot_state', (select count(*) from bot_runtime.bot_state where bot_id = p_bot_id),
    'bot_positions', (select count(*) from bot_runtime.bot_positions where bot_id = p_bot_id),
    'bot_trades', (select count(*) from bot_runtime.bot_trades where bot_id = p_bot_id),
    'bot_fills', (select count(*) from bot_runtime.bot_fills where bot_id = p_bot_id),
    'bot_events', (select count(*) from bot_runtime.bot_events where bot_id = p_bot_id),
    'bot_health_evidence', (select count(*) from bot_runtime.bot_health_evidence where bot_id = p_bot_id),
    'risk_decisions', (select count(*) from bot_runtime.risk_decisions where bot_id = p_bot_id),
    'cycle_trace', (select count(*) from bot_runtime.cycle_trace where bot_id = p_bot_id),
    'run_metrics', (select count(*) from bot_runtime.run_metrics where bot_id = p_bot_id),
    'notifications', (select count(*) from bot_runtime.notifications where bot_id = p_bot_id),
    'notification_queue', (select count(*) from bot_runtime.notification_queue where bot_id = p_bot_id),
    'sessions', (select count(*) from bot_runtime.sessions where bot_id = p_bot_id),
    'sync_streams', (select count(*) from bot_runtime.sync_streams where bot_id = p_bot_id),
    'dead_letters', (select count(*) from bot_runtime.dead_letters where bot_id = p_bot_id),
    'control_requests', (select count(*) from bot_runtime.control_requests where bot_id = p_bot_id),
    'subscriptions', (select count(*) from bot_runtime.subscriptions where bot_id = p_bot_id),
    'api_keys', (select count(*) from bot_runtime.api_keys where bot_id = p_bot_id),
    'audit_log', (select count(*) from bot_runtime.audit_log where bot_id = p_bot_id))
$$;
comment on function bot_runtime.row_counts(uuid) is 'How many rows each table has of one bot.';

create or replace function bot_runtime.check_settings(p_settings jsonb, p_name text) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_key text;
begin
  perform bot_runtime.check_object(p_settings, p_name);
  for v_key in select jsonb_object_keys(p_settings) loop
    if v_key !~ '^[A-Z][A-Z0-9_]{0,63}$' then
      perform bot_runtime.invalid(p_name, left(v_key, 64), 'not a setting''s name, which is in capitals');
    end if;
  end loop;
end $$;
comment on function bot_runtime.check_settings(jsonb, text) is 'Refuses what can''t be an object of session settings.';

create or replace function bot_runtime.symbols_of(p_payload jsonb) returns text[]
language plpgsql stable set search_path = '' as $$
declare
  v_symbols text[];
begin
  if jsonb_typeof(p_payload -> 'symbols') is distinct from 'array' then
    perform bot_runtime.invalid('p_payload', 'symbols', 'not an array');
  end if;
  if jsonb_array_length(p_payload -> 'symbols') not between 1 and 100 then
    perform bot_runtime.invalid('p_payload', 'symbols', 'not 1 to 100 symbols');
  end if;
  select array_agg(each #>> '{}' order by place) into v_symbols
    from jsonb_array_elements(p_payload -> 'symbols') with ordinality as symbols (each, place)
   where jsonb_typeof(each) = 'string' and each #>> '{}' ~ '^[A-Za-z0-9][A-Za-z0-9._:/|-]{0,127}$';
  if coalesce(cardinality(v_symbols), 0) <> jsonb_array_length(p_payload -> 'symbols') then
    perform bot_runtime.invalid('p_payload', 'symbols', 'not all look like BTC/USDT');
  end if;
  if (select count(distinct each) from unnest(v_symbols) as each) <> cardinality(v_symbols) then
    perform bot_runtime.invalid('p_payload', 'symbols', 'one is there twice');
  end if;
  return v_symbols;
end $$;
comment on function bot_runtime.symbols_of(jsonb) is 'The symbols that a payload names.';

-- -------------------------------------------------------------------------------------------------- making a bot
create or replace function public.bot_admin_create(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator   bot_runtime.operator := bot_runtime.operator_auth('admin');
  v_name       text;
  v_mode       text;
  v_exchange   text;
  v_symbols    text[];
  v_tier       text;
  v_strategy   uuid := gen_random_uuid();
  v_ciphertext text;
  v_lease_s    numeric;
begin
  if p_bot_id is null then
    perform bot_runtime.invalid('p_bot_id', null, 'missing');
  end if;
  perform bot_runtime.check_object(p_payload, 'p_payload', 262144);
  perform bot_runtime.check_keys(p_payload, 'p_payload', array['name', 'exchange', 'symbols', 'strategy',
    'fingerprint', 'mode', 'polling_tier', 'exchange_options', 'settings', 'ciphertext', 'user_id', 'lease_s',
    'provider', 'region', 'machine_id', 'ttl_s']);
  v_name := bot_runtime.need_text(p_payload, 'p_payload', 'name', '^[^[:cntrl:]]{1,128}$');
  v_mode := bot_runtime.need_text(p_payload, 'p_payload', 'mode', '^(paper|live)$');
  v_exchange := bot_runtime.need_text(p_payload, 'p_payload', 'exchange', '^[a-z0-9][a-z0-9_-]{0,63}$');
  if exists (select 1 from bot_runtime.supported_exchanges where id = v_exchange and not active) then
    perform bot_runtime.invalid('p_payload', 'exchange', 'not offered any more');
  end if;
  v_symbols := bot_runtime.symbols_of(p_payload);
  v_tier := coalesce(bot_runtime.opt_text(p_payload, 'p_payload', 'polling_tier',
    '^(fast_5s|ultra_15s|fast_30s|standard)$'), 'standard');
  perform bot_runtime.check_object(p_payload -> 'strategy', 'p_payload.strategy');
  perform bot_runtime.need_text(p_payload -> 'strategy', 'p_payload.strategy', 'name', '^[^[:cntrl:]]{1,128}$');
  perform bot_runtime.check_object(coalesce(p_payload -> 'exchange_options', '{}'), 'p_payload.exchange_options');
  perform bot_runtime.check_settings(coalesce(p_payload -> 'settings', '{}'), 'p_payload.settings');
  v_ciphertext := bot_runtime.opt_text(p_payload, 'p_payload', 'ciphertext', '^[[:graph:]]+$');
  v_lease_s := bot_runtime.arg_number(coalesce(p_payload ->> 'lease_s', '30'), 'p_payload.lease_s', 0.2, 600);

  insert into bot_runtime.strategies (id, name, definition, fingerprint)
  values (v_strategy, p_payload -> 'strategy' ->> 'name', p_payload -> 'strategy',
          bot_runtime.opt_text(p_payload, 'p_payload', 'fingerprint', '^[0-9a-f]{64}$'));
  insert into bot_runtime.bots (id, name, user_id, mode, exchange, symbols, strategy_id, polling_tier,
                                exchange_options, execution_config, settings)
  values (p_bot_id, v_name, bot_runtime.opt_text(p_payload, 'p_payload', 'user_id', '^[^[:cntrl:]]{1,128}$'), v_mode,
          v_exchange, v_symbols, v_strategy, v_tier,
          -- A paper market opens with its bot, so that its time goes on whoever runs the bot, and wherever.
          case when v_exchange = 'paper' then jsonb_build_object('opened_at', bot_runtime.utc(clock_timestamp()))
               else '{}' end || coalesce(nullif(p_payload -> 'exchange_options', 'null'), '{}'),
          jsonb_build_object('lease_s', bot_runtime.as_text(v_lease_s)), coalesce(p_payload -> 'settings', '{}'))
  on conflict (id) do nothing;
  if not found then
    perform bot_runtime.refuse('PT422', 'bot_exists', p_bot_id::text);
  end if;
  insert into bot_runtime.subscriptions (bot_id, status) values (p_bot_id, 'active');
  if v_ciphertext is not null then
    insert into bot_runtime.api_keys (bot_id, exchange, ciphertext) values (p_bot_id, v_exchange, v_ciphertext);
  end if;
  perform bot_runtime.audit(v_operator, 'create', p_bot_id, jsonb_build_object(
    'name', v_name, 'mode', v_mode, 'exchange', v_exchange, 'symbols', to_jsonb(v_symbols),
    'strategy', p_payload -> 'strategy' ->> 'name', 'has_credentials', v_ciphertext is not null));
  -- An unnamed place is null, as in the registration of a runtime by itself.
  return public.bot_runtime_register(p_bot_id,
    bot_runtime.opt_text(p_payload, 'p_payload', 'provider'), bot_runtime.opt_text(p_payload, 'p_payload', 'region'),
    bot_runtime.opt_text(p_payload, 'p_payload', 'machine_id'), coalesce(p_payload ->> 'ttl_s', '2592000'));
end $$;
comment on function public.bot_admin_create(uuid, jsonb) is
$c$Makes a bot with its strategy, an active subscription and a runtime token; the caller chooses the bot's id.
Argument p_payload: name, exchange, symbols (array), strategy (definition) and mode (paper or live); optional
polling_tier, exchange_options, settings, ciphertext (sealed exchange credentials), fingerprint (of the definition),
user_id, lease_s, provider, region, machine_id and ttl_s (of the token, seconds).
Result: {bot_id, runtime_token, epoch, expires_at}; the token is told this once, only its hash is kept.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs admin); PT422 payload_invalid (the field), bot_exists
(the id is taken: after an answer that was lost, issue a new token for it).$c$;

-- ------------------------------------------------------------------------------------------------ seeing how it stands
create or replace function public.bot_admin_list(p_bot_id uuid default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.operator_auth('viewer');
  if p_bot_id is not null then
    perform bot_runtime.operator_bot(p_bot_id);
  end if;
  return jsonb_build_object('bots', (
    select coalesce(jsonb_agg(bot_runtime.bot_json(b) || jsonb_build_object(
             'controls', bot_runtime.controls_json(b), 'lease', bot_runtime.lease_json(b.id),
             'state', bot_runtime.state_json(b.id)) order by b.name, b.id), '[]')
      from bot_runtime.bots b where p_bot_id is null or b.id = p_bot_id));
end $$;
comment on function public.bot_admin_list(uuid) is
$c$Lists the bots, or tells of one.
Argument p_bot_id: one bot only; all of them without it.
Result: {bots: [{id, name, mode, exchange, symbols, active, strategy, controls, lease, state, ...}]} by name.
Refuses: PT401 operator_token_invalid; PT404 bot_not_found.$c$;

create or replace function public.bot_admin_show(p_bot_id uuid, p_limit text default '100') returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_limit bigint;
  v_shown jsonb;
begin
  perform bot_runtime.operator_auth('viewer');
  perform bot_runtime.operator_bot(p_bot_id);
  v_limit := bot_runtime.arg_int(p_limit, 'p_limit', 1, 1000);
  -- One statement, so that orders, fills and position are of one instant.
  select jsonb_build_object(
      'bot', bot_runtime.bot_json(b) || jsonb_build_object(
        'exchange_options', b.exchange_options, 'execution_config', b.execution_config, 'settings', b.settings,
        'settings_version', b.settings_version,
        'runtime', (select jsonb_build_object('provider', r.provider, 'region', r.region, 'machine_id', r.machine_id,
                           'epoch', r.epoch, 'registered_at', bot_runtime.utc(r.registered_at),
                           'token_expires_at', bot_runtime.utc(r.token_expires_at),
                           'revoked_at', bot_runtime.utc(r.revoked_at), 'revoke_reason', r.revoke_reason)
                      from bot_runtime.bot_runtime r where r.bot_id = b.id)),
      'state', bot_runtime.state_json(b.id),
      'lease', bot_runtime.lease_json(b.id),
      'controls', bot_runtime.controls_json(b),
      'health', (select h.evidence from bot_runtime.bot_health_evidence h where h.bot_id = b.id),
      'position', bot_runtime.positions_json(b.id) -> 0,
      'positions', bot_runtime.positions_json(b.id),
      'orders', bot_runtime.orders_json(b.id, v_limit),
      'fills', bot_runtime.fills_json(b.id, v_limit),
      'rows', bot_runtime.row_counts(b.id))
    into v_shown from bot_runtime.bots b where b.id = p_bot_id;
  return v_shown;
end $$;
comment on function public.bot_admin_show(uuid, text) is
$c$Shows one bot whole, as of one instant.
Argument p_limit: how many of the newest orders and fills, 1 to 1000.
Result: {bot, state, lease, controls, health, position, positions, orders, fills, rows}: position is the open one (the
latest changed, when there are several in positions) or null, rows counts each table's; state and health are null before
the first heartbeat and flush; orders and fills are newest first.
Refuses: PT401 operator_token_invalid; PT404 bot_not_found; PT422 payload_invalid (p_bot_id, p_limit).$c$;

-- -------------------------------------------------------------------------------------------------------- steering it
create or replace function public.bot_admin_control(
  p_bot_id uuid, p_action text, p_reason text default null, p_request_id text default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator bot_runtime.operator := bot_runtime.operator_auth('operator');
  v_reason   text;
  v_known    bot_runtime.control_requests;
  v_bot      bot_runtime.bots;
begin
  perform bot_runtime.operator_bot(p_bot_id);
  perform bot_runtime.arg_text(p_action, 'p_action', '^(pause|resume|kill|release|flatten|observe|unobserve)$', 16);
  v_reason := bot_runtime.operator_text(p_reason, 'p_reason');
  if p_request_id is not null then
    perform bot_runtime.arg_text(p_request_id, 'p_request_id', '^[A-Za-z0-9][A-Za-z0-9._:/|-]{0,127}$', 128);
  end if;
  select * into v_bot from bot_runtime.bots where id = p_bot_id for no key update;
  select * into v_known from bot_runtime.control_requests where bot_id = p_bot_id and request_id = p_request_id;
  if found then
    if v_known.action <> p_action then
      perform bot_runtime.refuse('PT422', 'key_conflict', format('p_request_id: known with %s', v_known.action));
    end if;
    return jsonb_build_object('version', v_known.version, 'controls', bot_runtime.controls_json(v_bot));
  end if;
  update bot_runtime.bots
     set controls_version = controls_version + 1,
         flatten_version = case p_action when 'flatten' then controls_version + 1 else flatten_version end,
         controls = controls || case p_action
           when 'pause' then '{"paused": true}' when 'resume' then '{"paused": false}'
           when 'kill' then '{"killed": true}' when 'release' then '{"killed": false}'
           when 'observe' then '{"observe_only": true}' when 'unobserve' then '{"observe_only": false}'
           else '{}' end::jsonb,
         updated_at = clock_timestamp()
   where id = p_bot_id
  returning * into v_bot;
  if p_request_id is not null then
    insert into bot_runtime.control_requests (bot_id, request_id, action, version, operator)
    values (p_bot_id, p_request_id, p_action, v_bot.controls_version, v_operator.name);
  end if;
  perform bot_runtime.audit(v_operator, 'control', p_bot_id, jsonb_strip_nulls(jsonb_build_object(
    'action', p_action, 'version', v_bot.controls_version, 'reason', v_reason, 'request_id', p_request_id)));
  return jsonb_build_object('version', v_bot.controls_version, 'controls', bot_runtime.controls_json(v_bot));
end $$;
comment on function public.bot_admin_control(uuid, text, text, text) is
$c$Says what the operator wants of a bot: a new version of its controls, which the bot reads with its next heartbeat.
Argument p_action: pause and resume entries; kill (no entries until it is released, positions keep their protection) and
release; flatten (close what is open at market, once); observe (decide, send nothing) and unobserve.
Argument p_reason: for the audit log, one line.
Argument p_request_id: names the request; a repeat is answered with the version it made and changes nothing.
Result: {version, controls: {version, acknowledged, paused, killed, observe_only, flatten_version}}.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs operator); PT404 bot_not_found; PT422 payload_invalid
(the argument), key_conflict (the request id stands for another action).$c$;

create or replace function public.bot_admin_settings(
  p_bot_id uuid, p_settings jsonb, p_active text default null, p_subscription text default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator bot_runtime.operator := bot_runtime.operator_auth('admin');
  v_bot      bot_runtime.bots;
  v_settings jsonb;
begin
  perform bot_runtime.operator_bot(p_bot_id);
  perform bot_runtime.check_settings(p_settings, 'p_settings');
  if p_active is not null then
    perform bot_runtime.arg_text(p_active, 'p_active', '^(true|false)$', 5);
  end if;
  if p_subscription is not null then
    perform bot_runtime.arg_text(p_subscription, 'p_subscription',
      '^(active|inactive|past_due|trialing|canceled)$', 16);
  end if;
  select * into v_bot from bot_runtime.bots where id = p_bot_id for no key update;
  select coalesce(jsonb_object_agg(key, value), '{}') into v_settings
    from jsonb_each(v_bot.settings || p_settings) where value <> 'null';
  perform bot_runtime.check_object(v_settings, 'p_settings');
  if p_subscription is not null then
    insert into bot_runtime.subscriptions (bot_id, status) values (p_bot_id, p_subscription)
    on conflict (bot_id) do update set status = excluded.status, updated_at = clock_timestamp();
  end if;
  -- A running bot looks at its subscription when the version of its controls has changed.
  update bot_runtime.bots
     set settings = v_settings,
         settings_version = settings_version + (settings <> v_settings)::integer,
         active = coalesce(p_active::boolean, active),
         controls_version = controls_version + (p_active is not null or p_subscription is not null)::integer,
         updated_at = clock_timestamp()
   where id = p_bot_id
  returning * into v_bot;
  perform bot_runtime.audit(v_operator, 'settings', p_bot_id, jsonb_strip_nulls(jsonb_build_object(
    'settings', p_settings, 'active', p_active, 'subscription', p_subscription)));
  return jsonb_build_object('settings', v_bot.settings, 'settings_version', v_bot.settings_version,
    'active', v_bot.active, 'subscription', bot_runtime.bot_json(v_bot) -> 'subscription',
    'controls_version', v_bot.controls_version);
end $$;
comment on function public.bot_admin_settings(uuid, jsonb, text, text) is
$c$Changes a bot's session settings, whether it is active, and its subscription.
Argument p_settings: what changes, by name; null takes a setting back to its default; {} changes none. A running session
keeps the settings that it started with.
Argument p_active: true or false; an inactive bot can't be claimed.
Argument p_subscription: active, inactive, past_due, trialing or canceled.
Result: {settings, settings_version, active, subscription, controls_version}.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs admin); PT404 bot_not_found; PT422 payload_invalid (the
argument).$c$;

-- --------------------------------------------------------------------------------------------- settling what was left
create or replace function bot_runtime.dead_letter_json(p_letter bot_runtime.dead_letters) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('id', p_letter.id, 'store_id', p_letter.store_id, 'seq', p_letter.seq, 'fn', p_letter.fn,
    'key', p_letter.key, 'args', p_letter.args, 'reason', p_letter.reason, 'at', bot_runtime.utc(p_letter.at),
    'status', p_letter.status, 'resolved_at', bot_runtime.utc(p_letter.resolved_at))
$$;
comment on function bot_runtime.dead_letter_json(bot_runtime.dead_letters) is 'A dead letter, as operators see it.';

create or replace function public.bot_admin_dead_letters(p_bot_id uuid, p_action text, p_id text default null)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator bot_runtime.operator;
  v_letter   bot_runtime.dead_letters;
  v_caller   bot_runtime.caller;
  v_status   text;
  v_id       bigint;
begin
  v_operator := bot_runtime.operator_auth(case when p_action in ('retry', 'drop') then 'operator' else 'viewer' end);
  perform bot_runtime.operator_bot(p_bot_id);
  perform bot_runtime.arg_text(p_action, 'p_action', '^(list|retry|drop)$', 8);
  if p_action = 'list' then
    return jsonb_build_object('dead_letters', (
      select coalesce(jsonb_agg(bot_runtime.dead_letter_json(first)
                                order by first.status = 'waiting' desc, first.id desc), '[]')
        from (select * from bot_runtime.dead_letters where bot_id = p_bot_id
               order by status = 'waiting' desc, id desc limit 1000) first));
  end if;
  v_status := case p_action when 'retry' then 'retried' else 'dropped' end;
  v_id := bot_runtime.arg_int(p_id, 'p_id', 1, 999999999999999999);
  v_caller := bot_runtime.operator_bot_locked(p_bot_id);
  select * into v_letter from bot_runtime.dead_letters where bot_id = p_bot_id and id = v_id for no key update;
  if not found then
    perform bot_runtime.refuse('PT404', 'dead_letter_not_found', 'p_id: ' || p_id);
  elsif v_letter.status not in ('waiting', v_status) then
    perform bot_runtime.refuse('PT422', 'dead_letter_resolved', 'p_id: was ' || v_letter.status);
  elsif v_letter.status = 'waiting' then
    if p_action = 'retry' then
      if v_letter.args is null or v_letter.args ? 'head' then
        perform bot_runtime.refuse('PT422', 'args_not_kept', 'p_id: it was too large, only its beginning was kept');
      elsif v_letter.fn = 'upsert_bot_health_evidence' then
        -- Evidence is what is newest, and newer evidence has come meanwhile.
        perform bot_runtime.refuse('PT422', 'not_retryable', 'p_id: evidence of then would hide that of now');
      end if;
      -- A second refusal goes back to the operator, and the letter waits on.
      perform bot_runtime.apply(v_caller, v_letter.fn, v_letter.args);
    end if;
    update bot_runtime.dead_letters set status = v_status, resolved_at = clock_timestamp()
     where id = v_letter.id returning * into v_letter;
    perform bot_runtime.audit(v_operator, 'dead_letter_' || p_action, p_bot_id, jsonb_build_object(
      'id', v_letter.id, 'fn', v_letter.fn, 'key', v_letter.key, 'reason', v_letter.reason));
  end if;
  return bot_runtime.dead_letter_json(v_letter);
end $$;
comment on function public.bot_admin_dead_letters(uuid, text, text) is
$c$Lists the outbox entries of a bot that were refused for good, applies one again, or gives one up.
Argument p_action: list (viewer), retry or drop (operator).
Argument p_id: the letter to retry or drop. Doing the same twice changes nothing.
Result: list: {dead_letters: [{id, store_id, seq, fn, key, args, reason, at, status, resolved_at}]}, those that wait
first, the newest first among them and among the others, at most 1000; else the one letter.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs operator); PT404 bot_not_found, dead_letter_not_found;
PT422 payload_invalid (the argument), dead_letter_resolved (it was retried or dropped before), args_not_kept (it was too
large to be kept whole), not_retryable (health evidence, which newer evidence has replaced), and on retry whatever the
entry's own function refuses.$c$;

create or replace function public.bot_admin_trade(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator bot_runtime.operator := bot_runtime.operator_auth('operator');
  v_bot      bot_runtime.bots;
  v_caller   bot_runtime.caller;
  v_id       text;
  v_exchange text;
  v_symbol   text;
  v_qty      numeric;
  v_price    numeric;
  v_field    text;
  v_known    bot_runtime.bot_trades;
  v_row      jsonb;
begin
  v_bot := bot_runtime.operator_bot(p_bot_id);
  perform bot_runtime.check_object(p_payload, 'p_payload');
  perform bot_runtime.check_keys(p_payload, 'p_payload', array['client_order_id', 'exchange_order_id', 'symbol', 'side',
    'qty', 'price', 'strategy', 'position_id', 'reason']);
  v_id := bot_runtime.need_text(p_payload, 'p_payload', 'client_order_id', '^[A-Za-z0-9][A-Za-z0-9._:/|-]{0,127}$');
  v_symbol := bot_runtime.need_text(p_payload, 'p_payload', 'symbol');
  if v_symbol <> all (v_bot.symbols) then
    perform bot_runtime.invalid('p_payload', 'symbol', 'not one of the bot''s symbols');
  end if;
  perform bot_runtime.need_text(p_payload, 'p_payload', 'side', '^(buy|sell)$');
  v_qty := bot_runtime.need_money(p_payload, 'p_payload', 'qty');
  if v_qty <= 0 then
    perform bot_runtime.invalid('p_payload', 'qty', 'not above zero');
  end if;
  v_price := bot_runtime.need_money(p_payload, 'p_payload', 'price');
  if v_price <= 0 then
    perform bot_runtime.invalid('p_payload', 'price', 'not above zero');
  end if;
  perform bot_runtime.operator_text(bot_runtime.opt_text(p_payload, 'p_payload', 'reason'), 'p_payload.reason');
  v_exchange := bot_runtime.opt_text(p_payload, 'p_payload', 'exchange_order_id');
  v_caller := bot_runtime.operator_bot_locked(p_bot_id);
  select case when client_order_id = v_id then 'client_order_id' else 'exchange_order_id' end into v_field
    from bot_runtime.bot_trades
   where bot_id = p_bot_id and (client_order_id = v_id or exchange_order_id = v_exchange)
     and ((event, symbol, side, qty, avg_fill_price)
            is distinct from ('manual', v_symbol, p_payload ->> 'side', v_qty, v_price)
          or strategy <> nullif(p_payload ->> 'strategy', '') or position_id <> p_payload ->> 'position_id'
          or reason <> p_payload ->> 'reason')
   limit 1;
  if found then
    perform bot_runtime.refuse('PT422', 'key_conflict', format('p_payload.%s: known with another payload', v_field));
  end if;
  select * into v_known from bot_runtime.bot_trades where bot_id = p_bot_id and client_order_id = v_id;
  -- A repeat under a later epoch is no news either.
  v_caller.epoch := coalesce(v_known.epoch, v_caller.epoch);
  v_row := bot_runtime.apply(v_caller, 'bot_runtime_upsert_trade', jsonb_build_object(
    'p_client_order_id', v_id,
    'p_exchange_order_id', v_exchange,
    'p_payload', jsonb_strip_nulls(jsonb_build_object(
      'symbol', v_symbol, 'side', p_payload ->> 'side', 'event', 'manual', 'order_type', 'market',
      'order_status', 'filled', 'qty', p_payload ->> 'qty', 'filled_qty', p_payload ->> 'qty',
      'avg_fill_price', p_payload ->> 'price', 'strategy', p_payload ->> 'strategy',
      'position_id', p_payload ->> 'position_id', 'reason', p_payload ->> 'reason'))));
  if v_known.id is null or v_row <> bot_runtime.trade_json(v_known) then
    perform bot_runtime.audit(v_operator, 'trade', p_bot_id, p_payload);
  end if;
  return v_row;
end $$;
comment on function public.bot_admin_trade(uuid, jsonb) is
$c$Records a trade that a person made on the bot's account, as a filled order with the event manual; it sends nothing.
Argument p_payload: client_order_id (names the record; a repeat changes nothing), symbol (one of the bot's), side (buy
or sell), qty and price (money as text); optional exchange_order_id, strategy, position_id, reason.
Result: the row of bot_trades.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs operator); PT404 bot_not_found; PT422 payload_invalid
(the field), key_conflict (an order is known under one of the ids that is the bot's own, or another trade),
exchange_order_id_conflict (the trade is known under another id of the exchange).$c$;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid from pg_catalog.pg_proc p
     where p.pronamespace = 'public'::regnamespace and p.proname like 'bot\_admin\_%'
  loop
    execute format('revoke all on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end $$;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
