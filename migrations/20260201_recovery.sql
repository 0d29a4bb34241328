-- Recovery: what operators settle by hand, what it leaves behind, and what a runtime needs to know again.
--
-- Two requests join the controls. Each is done once, by the version that asked for it, and is over when a version that
-- is no older is acknowledged. `adopt` makes a bot's book follow the exchange by a correction, which is neither an
-- order nor a fill and has a table of its own. `resolve` ends an order of which the exchange says nothing more.

alter table bot_runtime.bots
  add column if not exists requests jsonb not null default '[]' check (jsonb_typeof(requests) = 'array');
comment on column bot_runtime.bots.requests is
  'What the operator asked to be done once and no runtime has acknowledged: {version, action, reason, client_order_id, '
  'outcome}, by version.';

alter table bot_runtime.control_requests
  add column if not exists client_order_id text,
  add column if not exists outcome text;

create table if not exists bot_runtime.bot_adjustments (
  bot_id        uuid not null references bot_runtime.bots (id),
  adjustment_id text not null check (char_length(adjustment_id) between 1 and 128),
  symbol        text not null,
  qty           numeric not null check (qty <> 0),
  price         numeric not null check (price > 0),
  seq           bigint not null,
  at            timestamptz not null,
  reason        text,
  epoch         bigint,
  recorded_at   timestamptz not null default clock_timestamp(),
  primary key (bot_id, adjustment_id)
);
alter table bot_runtime.bot_adjustments enable row level security;
revoke all on bot_runtime.bot_adjustments from public, anon, authenticated, service_role;
comment on table bot_runtime.bot_adjustments is
  'By how much operators had a bot''s book corrected: signed base, valued in quote, no trade of anybody''s. Retention: '
  'seven years, as the fills.';
comment on column bot_runtime.bot_adjustments.seq is 'The last account event before it.';

-- ------------------------------------------------------------------------------------------------------ adjustments
create or replace function bot_runtime.adjustment_json(p_row bot_runtime.bot_adjustments) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('adjustment_id', p_row.adjustment_id, 'symbol', p_row.symbol,
    'qty', bot_runtime.as_text(p_row.qty), 'price', bot_runtime.as_text(p_row.price), 'seq', p_row.seq,
    'at', bot_runtime.utc(p_row.at), 'reason', p_row.reason)
$$;
comment on function bot_runtime.adjustment_json(bot_runtime.bot_adjustments) is
  'A correction as the functions return it, money as text.';

create or replace function bot_runtime.apply_adjustment(p_caller bot_runtime.caller, p_args jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_kinds constant jsonb := '{
    "adjustment_id": "id", "symbol": "symbol", "qty": "money", "price": "money", "seq": "bigint", "at": "time",
    "reason": "text"}';
  v_row   bot_runtime.bot_adjustments;
  v_known bot_runtime.bot_adjustments;
begin
  perform bot_runtime.check_fields(p_args -> 'p_payload', 'p_payload', v_kinds,
    array['adjustment_id', 'symbol', 'qty', 'price', 'seq', 'at']);
  v_row := jsonb_populate_record(v_row, p_args -> 'p_payload');
  if v_row.qty = 0 then
    perform bot_runtime.invalid('p_payload', 'qty', 'zero');
  elsif v_row.price <= 0 then
    perform bot_runtime.invalid('p_payload', 'price', 'not above zero');
  end if;
  insert into bot_runtime.bot_adjustments (bot_id, adjustment_id, symbol, qty, price, seq, at, reason, epoch)
  values (p_caller.bot_id, v_row.adjustment_id, v_row.symbol, v_row.qty, v_row.price, v_row.seq, v_row.at, v_row.reason,
    coalesce(p_caller.epoch, p_caller.current_epoch))
  on conflict do nothing;
  if found then
    return true;
  end if;
  select * into v_known from bot_runtime.bot_adjustments
   where bot_id = p_caller.bot_id and adjustment_id = v_row.adjustment_id;
  if (v_known.symbol, v_known.qty, v_known.price, v_known.seq, v_known.at)
     is distinct from (v_row.symbol, v_row.qty, v_row.price, v_row.seq, v_row.at) then
    perform bot_runtime.refuse('PT422', 'key_conflict', 'p_payload.adjustment_id: known with another payload');
  end if;
  return false;
end $$;
comment on function bot_runtime.apply_adjustment(bot_runtime.caller, jsonb) is
  'The body of bot_runtime_record_adjustment; whether the correction is new.';

create or replace function public.bot_runtime_record_adjustment(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
begin
  return jsonb_build_object('recorded',
    bot_runtime.apply_adjustment(v_caller, jsonb_build_object('p_payload', p_payload)));
end $$;
comment on function public.bot_runtime_record_adjustment(uuid, jsonb) is
$c$Records by how much an operator had the bot's book corrected, once by its id; a fact, which any epoch may tell.
Result: {recorded}; false for a repeat.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid, key_conflict (the id is known with another payload).
Argument p_payload: adjustment_id (adopt: and the version that asked for it), symbol, qty (signed base) and price (money
as text; not a trade's), seq (the last account event before it) and at (ISO time with zone), all needed; reason.$c$;

create or replace function public.bot_runtime_get_adjustments(p_bot_id uuid, p_symbol text default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  if not bot_runtime.is_symbol(p_symbol) then
    perform bot_runtime.invalid('p_symbol', null, 'malformed');
  end if;
  return (
    select coalesce(jsonb_agg(bot_runtime.adjustment_json(a) order by a.seq, a.at, a.adjustment_id), '[]')
      from bot_runtime.bot_adjustments a
     where a.bot_id = p_bot_id and (p_symbol is null or a.symbol = p_symbol));
end $$;
comment on function public.bot_runtime_get_adjustments(uuid, text) is
$c$Reads every correction of the bot's book, for a runtime that has lost its own store: the fills alone would not make
the same position.
Result: an array of {adjustment_id, symbol, qty, price, seq, at, reason}, in the order in which they count.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid (p_symbol).
Argument p_symbol: only this symbol's; null for any.$c$;

create or replace function bot_runtime.apply(
  p_caller bot_runtime.caller, p_fn text, p_args jsonb, p_brief boolean default false) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_args     jsonb := p_args - 'p_bot_id';
  v_trade    bot_runtime.bot_trades;
  v_position bot_runtime.bot_positions;
begin
  if p_args is null or jsonb_typeof(p_args) <> 'object' then
    perform bot_runtime.invalid('args', null, 'not an object');
  elsif p_args ? 'p_bot_id' and lower(p_args ->> 'p_bot_id') is distinct from p_caller.bot_id::text then
    perform bot_runtime.refuse('PT403', 'not_your_bot', p_fn);
  end if;
  case p_fn
    when 'bot_runtime_upsert_trade' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_client_order_id', 'p_exchange_order_id', 'p_payload']);
      v_trade := bot_runtime.apply_trade(p_caller, v_args);
      return case when not p_brief then bot_runtime.trade_json(v_trade) end;
    when 'bot_runtime_record_fill' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_payload']);
      return to_jsonb(bot_runtime.apply_fill(p_caller, v_args));
    when 'bot_runtime_record_adjustment' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_payload']);
      return to_jsonb(bot_runtime.apply_adjustment(p_caller, v_args));
    when 'bot_runtime_upsert_position' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_payload']);
      -- Without seq it would be a snapshot, which only the present owner may tell and which is over when it gets here.
      if v_args #>> '{p_payload,seq}' is null then
        perform bot_runtime.invalid('p_payload', 'seq', 'missing');
      end if;
      v_position := bot_runtime.apply_position(p_caller, v_args);
      return case when not p_brief then bot_runtime.position_json(v_position) end;
    when 'bot_runtime_record_decision' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_payload']);
      return to_jsonb(bot_runtime.apply_decision(p_caller, v_args));
    when 'bot_runtime_record_cycle' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_payload']);
      return to_jsonb(bot_runtime.apply_cycle(p_caller, v_args));
    when 'bot_runtime_write_event' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_kind', 'p_level', 'p_payload', 'p_key']);
      return to_jsonb(bot_runtime.apply_event(p_caller, v_args));
    when 'bot_runtime_notify' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_channel', 'p_payload', 'p_key']);
      return to_jsonb(bot_runtime.apply_notice(p_caller, v_args));
    when 'upsert_bot_health_evidence' then
      perform bot_runtime.check_keys(v_args, 'args', array['p_patch']);
      return bot_runtime.apply_health(p_caller, v_args);
    else
      perform bot_runtime.refuse('PT422', 'function_unknown', coalesce(left(p_fn, 64), 'null'));
  end case;
  return null;
end $$;

comment on function public.bot_runtime_sync(uuid, text, text, jsonb) is
$c$Applies a batch of a local store's outbox, in order and each entry once; facts, which any epoch may deliver.
Result: {last_seq, refused: [{seq, reason}]}: how far the store's entries have come, and which of this batch can never
be applied (now or when they came first); those are kept as dead letters.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid (p_store_id, p_first_seq, entries that don't rise from p_first_seq), batch_too_large (more than 200
entries, or more than 256,000 bytes in more than one). What is wrong with one entry is told in refused: `word: detail`.
Argument p_store_id: names the store; each has its own sequence.
Argument p_first_seq: the seq of the first entry, at least 1.
Argument p_entries: an array of {seq, fn, args, key}. Entries at or below the last sequence are skipped. fn is one of
bot_runtime_upsert_trade, bot_runtime_record_fill, bot_runtime_upsert_position (with seq in its payload),
bot_runtime_record_adjustment, bot_runtime_record_decision, bot_runtime_record_cycle, bot_runtime_write_event,
bot_runtime_notify, upsert_bot_health_evidence; args are that function's, without p_bot_id.$c$;

-- --------------------------------------------------------------------------------------------------------- controls
create or replace function bot_runtime.controls_of(p_bot_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'version', b.controls_version,
      'acknowledged', b.controls_acknowledged,
      'control_config', jsonb_build_object(
        'paused', coalesce((b.controls ->> 'paused')::boolean, false),
        'killed', coalesce((b.controls ->> 'killed')::boolean, false),
        'observe_only', coalesce((b.controls ->> 'observe_only')::boolean, false),
        'flatten_version', b.flatten_version,
        'requests', b.requests),
      'execution_config', b.execution_config,
      'subscription_status', coalesce(s.status, 'inactive'))
      from bot_runtime.bots b left join bot_runtime.subscriptions s on s.bot_id = b.id
     where b.id = p_bot_id);
end $$;

create or replace function bot_runtime.controls_json(p_bot bot_runtime.bots) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'version', p_bot.controls_version, 'acknowledged', p_bot.controls_acknowledged,
    'paused', coalesce((p_bot.controls ->> 'paused')::boolean, false),
    'killed', coalesce((p_bot.controls ->> 'killed')::boolean, false),
    'observe_only', coalesce((p_bot.controls ->> 'observe_only')::boolean, false),
    'flatten_version', p_bot.flatten_version, 'requests', p_bot.requests)
$$;

comment on function public.bot_runtime_refresh_controls(uuid) is
$c$Tells what the operator wants of the bot now.
Result: {version, acknowledged, control_config: {paused, killed, observe_only, flatten_version, requests},
execution_config, subscription_status}; flatten_version is null once that version is acknowledged. requests are what is
to be done once: [{version, action (adopt, resolve), reason, client_order_id, outcome}], until acknowledged.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid.$c$;

create or replace function public.bot_runtime_acknowledge(p_bot_id uuid, p_version text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller  bot_runtime.caller := bot_runtime.runtime_claim_check(p_bot_id, true);
  v_version bigint;
  v_bot     bot_runtime.bots;
begin
  select * into v_bot from bot_runtime.bots where id = p_bot_id;
  v_version := bot_runtime.arg_int(p_version, 'p_version', 1, v_bot.controls_version);
  if v_version > v_bot.controls_acknowledged or v_version >= v_bot.flatten_version
     or v_version >= (v_bot.requests #>> '{0,version}')::bigint then
    update bot_runtime.bots
       set controls_acknowledged = greatest(controls_acknowledged, v_version),
           flatten_version = nullif(flatten_version, least(flatten_version, v_version)),
           requests = (select coalesce(jsonb_agg(value order by place), '[]')
                         from jsonb_array_elements(requests) with ordinality as _(value, place)
                        where (value ->> 'version')::bigint > v_version),
           updated_at = clock_timestamp()
     where id = p_bot_id returning * into v_bot;
    insert into bot_runtime.bot_events (bot_id, kind, level, payload, epoch)
    values (p_bot_id, 'controls_acknowledged', 'info', jsonb_build_object('version', v_version), v_caller.epoch);
  end if;
  return jsonb_build_object('acknowledged', v_bot.controls_acknowledged);
end $$;
comment on function public.bot_runtime_acknowledge(uuid, text) is
$c$Says that the controls of a version are carried out; a flatten or another
request of that version or an earlier one is then over.
Argument p_version: 1 to the present version; an earlier one than acknowledged changes nothing.
Result: {acknowledged}, the highest version so far.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch; PT422 payload_invalid.$c$;

drop function if exists public.bot_admin_control(uuid, text, text, text);
create or replace function public.bot_admin_control(
  p_bot_id uuid, p_action text, p_reason text default null, p_request_id text default null,
  p_client_order_id text default null, p_outcome text default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator bot_runtime.operator := bot_runtime.operator_auth('operator');
  v_reason   text;
  v_known    bot_runtime.control_requests;
  v_bot      bot_runtime.bots;
begin
  perform bot_runtime.operator_bot(p_bot_id);
  perform bot_runtime.arg_text(p_action, 'p_action',
    '^(pause|resume|kill|release|flatten|observe|unobserve|adopt|resolve)$', 16);
  v_reason := bot_runtime.operator_text(p_reason, 'p_reason');
  if p_action = 'resolve' then
    perform bot_runtime.arg_text(p_client_order_id, 'p_client_order_id', '^[A-Za-z0-9][A-Za-z0-9._:/|-]*$', 128);
    perform bot_runtime.arg_text(p_outcome, 'p_outcome', '^(filled|canceled|expired|rejected|absent)$', 16);
    if v_reason is null then
      perform bot_runtime.invalid('p_reason', null, 'missing: it will be the order''s reason');
    end if;
  elsif p_client_order_id is not null or p_outcome is not null then
    perform bot_runtime.invalid(case when p_outcome is null then 'p_client_order_id' else 'p_outcome' end, null,
      'for resolve alone');
  end if;
  if p_request_id is not null then
    perform bot_runtime.arg_text(p_request_id, 'p_request_id', '^[A-Za-z0-9][A-Za-z0-9._:/|-]{0,127}$', 128);
  end if;
  select * into v_bot from bot_runtime.bots where id = p_bot_id for no key update;
  select * into v_known from bot_runtime.control_requests where bot_id = p_bot_id and request_id = p_request_id;
  if found then
    if (v_known.action, v_known.client_order_id, v_known.outcome)
       is distinct from (p_action, p_client_order_id, p_outcome) then
      perform bot_runtime.refuse('PT422', 'key_conflict', format('p_request_id: known with %s', v_known.action));
    end if;
    return jsonb_build_object('version', v_known.version, 'controls', bot_runtime.controls_json(v_bot));
  end if;
  if p_action in ('adopt', 'resolve') and jsonb_array_length(v_bot.requests) >= 100 then
    perform bot_runtime.refuse('PT422', 'too_many_requests', '100 wait for the bot already');
  end if;
  update bot_runtime.bots
     set controls_version = controls_version + 1,
         flatten_version = case p_action when 'flatten' then controls_version + 1 else flatten_version end,
         controls = controls || case p_action
           when 'pause' then '{"paused": true}' when 'resume' then '{"paused": false}'
           when 'kill' then '{"killed": true}' when 'release' then '{"killed": false}'
           when 'observe' then '{"observe_only": true}' when 'unobserve' then '{"observe_only": false}'
           else '{}' end::jsonb,
         requests = case when p_action not in ('adopt', 'resolve') then requests
           else requests || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
             'version', controls_version + 1, 'action', p_action, 'reason', coalesce(v_reason, v_operator.name),
             'client_order_id', p_client_order_id, 'outcome', p_outcome))) end,
         updated_at = clock_timestamp()
   where id = p_bot_id
  returning * into v_bot;
  if p_request_id is not null then
    insert into bot_runtime.control_requests (bot_id, request_id, action, version, operator, client_order_id, outcome)
    values (p_bot_id, p_request_id, p_action, v_bot.controls_version, v_operator.name, p_client_order_id, p_outcome);
  end if;
  perform bot_runtime.audit(v_operator, 'control', p_bot_id, jsonb_strip_nulls(jsonb_build_object(
    'action', p_action, 'version', v_bot.controls_version, 'reason', v_reason, 'request_id', p_request_id,
    'client_order_id', p_client_order_id, 'outcome', p_outcome)));
  return jsonb_build_object('version', v_bot.controls_version, 'controls', bot_runtime.controls_json(v_bot));
end $$;
comment on function public.bot_admin_control(uuid, text, text, text, text, text) is
$c$Says what the operator wants of a bot: a new version of its controls, which the bot reads with its next heartbeat.
Argument p_action: pause and resume entries; kill (no entries until it is released, positions keep their protection) and
release; flatten (close what is open at market, once); observe (decide, send nothing) and unobserve; adopt (make the
book follow the exchange's position, once, by a correction that is no trade); resolve (end an order that stays unknown).
Argument p_reason: for the audit log, one line; needed to resolve, where it is the order's reason from then on.
Argument p_request_id: names the request; a repeat is answered with the version it made and changes nothing.
Argument p_client_order_id: for resolve: which order.
Argument p_outcome: for resolve: filled, canceled, expired, rejected or absent.
Result: {version, controls: {version, acknowledged, paused, killed, observe_only, flatten_version, requests}}.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs operator); PT404 bot_not_found; PT422 payload_invalid
(the argument), key_conflict (the request id stands for something else), too_many_requests (100 wait already).$c$;
revoke all on function public.bot_admin_control(uuid, text, text, text, text, text) from public, anon, authenticated;
grant execute on function public.bot_admin_control(uuid, text, text, text, text, text) to service_role;

-- ---------------------------------------------------------------------------------------------------- reading again
create or replace function bot_runtime.context_of(p_bot_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_bot      bot_runtime.bots;
  v_controls jsonb := bot_runtime.controls_of(p_bot_id);
begin
  select * into v_bot from bot_runtime.bots where id = p_bot_id;
  return jsonb_build_object(
    'bot', jsonb_build_object(
      'id', v_bot.id, 'name', v_bot.name, 'user_id', v_bot.user_id, 'mode', v_bot.mode, 'exchange', v_bot.exchange,
      'symbols', to_jsonb(v_bot.symbols), 'polling_tier', v_bot.polling_tier, 'active', v_bot.active,
      'exchange_options', v_bot.exchange_options, 'execution_config', v_bot.execution_config,
      'created_at', bot_runtime.utc(v_bot.created_at)),
    'symbols', to_jsonb(v_bot.symbols),
    'api_keys', (select jsonb_build_object('ciphertext', ciphertext) from bot_runtime.api_keys
                  where bot_id = p_bot_id and exchange = v_bot.exchange),
    'exchange', (select jsonb_build_object('id', id, 'name', name, 'active', active, 'details', details)
                   from bot_runtime.supported_exchanges where id = v_bot.exchange),
    'markets', bot_runtime.markets_of(v_bot.exchange, v_bot.symbols),
    'subscription', jsonb_build_object('status', v_controls -> 'subscription_status'),
    'strategy', (select jsonb_build_object('id', id, 'name', name, 'definition', definition,
                                           'fingerprint', fingerprint)
                   from bot_runtime.strategies where id = v_bot.strategy_id),
    'profile', (select jsonb_build_object('overrides', overrides) from bot_runtime.strategy_profiles
                 where bot_id = p_bot_id),
    'controls', v_controls,
    'settings', v_bot.settings,
    'settings_version', v_bot.settings_version,
    'runtime', (select jsonb_build_object(
                         'provider', provider, 'region', region, 'machine_id', machine_id, 'epoch', epoch,
                         'token_expires_at', bot_runtime.utc(token_expires_at), 'token_ttl_s', ttl_s)
                  from bot_runtime.bot_runtime where bot_id = p_bot_id));
end $$;
comment on function public.bot_runtime_get_context(uuid) is
$c$Tells a runtime all that it needs to start: the bot, its strategy, its credentials (sealed) and its controls.
Result: {bot: {id, name, user_id, mode, exchange, symbols, polling_tier, active, exchange_options, execution_config,
created_at}, symbols, api_keys: {ciphertext} or null, exchange: {id, name, active, details} or null, markets: [{symbol,
base, quote, active, details, price_step, amount_step, amount_min, notional_min}], subscription: {status} (inactive
without a row),
strategy: {id, name, definition, fingerprint} or null, profile: {overrides} or null, controls (as
bot_runtime_refresh_controls), settings, settings_version, runtime: {provider, region, machine_id, epoch,
token_expires_at, token_ttl_s}}.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid.$c$;

create or replace function public.bot_runtime_get_open_trades(p_bot_id uuid, p_symbol text default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  if not bot_runtime.is_symbol(p_symbol) then
    perform bot_runtime.invalid('p_symbol', null, 'malformed');
  end if;
  return (
    select coalesce(jsonb_agg(bot_runtime.trade_json(t) order by t.id), '[]') from bot_runtime.bot_trades t
     where (p_symbol is null or t.symbol = p_symbol) and t.id in (
       -- Two look-ups by index: a bot may have a million orders behind it.
       select o.id from bot_runtime.bot_trades o where o.bot_id = p_bot_id and o.is_open
       union
       select e.id from bot_runtime.bot_positions p
         join bot_runtime.bot_trades e
           on e.bot_id = p_bot_id and e.client_order_id = any (array[p.position_id, p.entry_client_order_id])
        where p.bot_id = p_bot_id and p.status = 'open'
       union
       -- The row of the position may not have come here any more.
       select n.id from (
         select f.id, f.event, f.filled_qty from bot_runtime.bot_trades f
          where f.bot_id = p_bot_id order by f.id desc limit 200) n
        where n.event in ('entry', 'pyramid') and n.filled_qty > 0));
end $$;
comment on function public.bot_runtime_get_open_trades(uuid, text) is
$c$Reads the orders that may still fill and those that opened a position, for a runtime that has lost its own store.
Result: an array of rows of bot_trades with money as text, oldest first: all that are not filled, canceled, expired,
simulated, absent or rejected, those of the last two that the exchange has spoken of afterwards, the entry of each open
position, and the filled entries among the 200 newest orders.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid (p_symbol).
Argument p_symbol: only this symbol's; null for any.$c$;

create or replace function bot_runtime.events_json(p_bot_id uuid, p_limit bigint) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'kind', kind, 'level', level, 'payload', payload, 'at', bot_runtime.utc(at),
    'recorded_at', bot_runtime.utc(recorded_at)) order by recorded_at desc), '[]')
    from (select * from bot_runtime.bot_events
           where bot_id = p_bot_id and recorded_at > clock_timestamp() - interval '30 days'
             and kind in ('recovery', 'account_doubted', 'position_sync', 'external_trade', 'request_done', 'dust_left')
           order by recorded_at desc limit p_limit) newest
$$;
comment on function bot_runtime.events_json(uuid, bigint) is
  'The newest events of a bot''s recovery, of the last 30 days.';

create or replace function bot_runtime.row_counts(p_bot_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'bot_runtime', (select count(*) from bot_runtime.bot_runtime where bot_id = p_bot_id),
    'bot_leases', (select count(*) from bot_runtime.bot_leases where bot_id = p_bot_id),
    'bot_state', (select count(*) from bot_runtime.bot_state where bot_id = p_bot_id),
    'bot_positions', (select count(*) from bot_runtime.bot_positions where bot_id = p_bot_id),
    'bot_trades', (select count(*) from bot_runtime.bot_trades where bot_id = p_bot_id),
    'bot_fills', (select count(*) from bot_runtime.bot_fills where bot_id = p_bot_id),
    'bot_adjustments', (select count(*) from bot_runtime.bot_adjustments where bot_id = p_bot_id),
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
      'events', bot_runtime.events_json(b.id, least(v_limit, 100)),
      'adjustments', (select coalesce(jsonb_agg(bot_runtime.adjustment_json(a) order by a.at desc), '[]')
                        from bot_runtime.bot_adjustments a where a.bot_id = b.id),
      'rows', bot_runtime.row_counts(b.id))
    into v_shown from bot_runtime.bots b where b.id = p_bot_id;
  return v_shown;
end $$;
comment on function public.bot_admin_show(uuid, text) is
$c$Shows one bot whole, as of one instant.
Argument p_limit: how many of the newest orders and fills, 1 to 1000.
Result: {bot, state, lease, controls, health, position, positions, orders, fills, events,
adjustments, rows}: position is the open one (the
latest changed, when there are several in positions) or null, rows counts each table's; state and health are null before
the first heartbeat and flush; orders, fills, events (of recovery, at most 100 of the last 30 days) and
adjustments are newest first.
Refuses: PT401 operator_token_invalid; PT404 bot_not_found; PT422 payload_invalid (p_bot_id, p_limit).$c$;

do $$
declare
  v_name text;
begin
  foreach v_name in array array['bot_runtime_record_adjustment(uuid, jsonb)', 'bot_runtime_get_adjustments(uuid, text)']
  loop
    execute format('revoke all on function public.%s from public, anon, authenticated', v_name);
    execute format('grant execute on function public.%s to service_role', v_name);
  end loop;
end $$;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
