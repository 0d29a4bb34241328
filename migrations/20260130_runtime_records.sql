-- What is recorded once and never changed: fills, decisions, bars, events, notices; and the newest health evidence.
--
-- Each record has a key. A repeat under the same key is no news and changes nothing; another content under a known key
-- is refused, for one of the two is wrong.

-- ------------------------------------------------------------------------------------------------------------- fills
create or replace function bot_runtime.apply_fill(p_caller bot_runtime.caller, p_args jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_kinds constant jsonb := '{
    "trade_id": "id", "client_order_id": "id", "exchange_order_id": "name", "symbol": "symbol", "side": "buy|sell",
    "qty": "money", "price": "money", "fee": "money", "fee_asset": "line", "maker": "bool", "at": "time",
    "seq": "bigint"}';
  v_fill  bot_runtime.bot_fills;
  v_known bot_runtime.bot_fills;
begin
  perform bot_runtime.check_fields(p_args -> 'p_payload', 'p_payload', v_kinds,
    array['trade_id', 'client_order_id', 'symbol', 'qty', 'price']);
  v_fill := jsonb_populate_record(v_fill, p_args -> 'p_payload');
  v_fill.exchange_order_id := nullif(v_fill.exchange_order_id, '');
  if v_fill.qty <= 0 then
    perform bot_runtime.invalid('p_payload', 'qty', 'not above zero');
  elsif v_fill.price <= 0 then
    perform bot_runtime.invalid('p_payload', 'price', 'not above zero');
  end if;
  insert into bot_runtime.bot_fills (bot_id, symbol, trade_id, client_order_id, exchange_order_id, side, qty, price,
    fee, fee_asset, maker, at, seq, epoch)
  values (p_caller.bot_id, v_fill.symbol, v_fill.trade_id, v_fill.client_order_id, v_fill.exchange_order_id,
    v_fill.side, v_fill.qty, v_fill.price, v_fill.fee, v_fill.fee_asset, v_fill.maker, v_fill.at, v_fill.seq,
    coalesce(p_caller.epoch, p_caller.current_epoch))
  on conflict (bot_id, symbol, trade_id) do nothing;
  if found then
    return true;
  end if;
  select * into v_known from bot_runtime.bot_fills
   where bot_id = p_caller.bot_id and symbol = v_fill.symbol and trade_id = v_fill.trade_id;
  -- Where the exchange numbers no events, seq is the runtime's own count, and another process counts otherwise.
  if (v_known.client_order_id, v_known.exchange_order_id, v_known.side, v_known.qty, v_known.price, v_known.fee,
      v_known.fee_asset, v_known.maker, v_known.at)
     is distinct from
     (v_fill.client_order_id, v_fill.exchange_order_id, v_fill.side, v_fill.qty, v_fill.price, v_fill.fee,
      v_fill.fee_asset, v_fill.maker, v_fill.at) then
    perform bot_runtime.refuse('PT422', 'key_conflict',
      format('p_payload.trade_id: %s is known with another payload', v_fill.trade_id));
  end if;
  return false;
end $$;
comment on function bot_runtime.apply_fill(bot_runtime.caller, jsonb) is
  'The body of bot_runtime_record_fill; whether the fill is new.';

create or replace function public.bot_runtime_record_fill(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
  v_new    boolean := bot_runtime.apply_fill(v_caller, jsonb_build_object('p_payload', p_payload));
begin
  return jsonb_build_object('trade_id', p_payload ->> 'trade_id', 'recorded', v_new);
end $$;
comment on function public.bot_runtime_record_fill(uuid, jsonb) is
$c$Records a fill as the exchange told it, once by its symbol and trade_id; a fact, which any epoch may tell.
Result: {trade_id, recorded}; recorded is false for a repeat.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid, key_conflict (the trade_id is known with another payload).
Argument p_payload: trade_id, client_order_id, symbol, qty and price (needed; money as text, above zero),
exchange_order_id, side (buy, sell), fee, fee_asset, maker, at (ISO time with zone), seq.$c$;

-- ---------------------------------------------------------------------------------------------------- events and keys
create or replace function bot_runtime.is_new_key(p_bot_id uuid, p_name text, p_key text, p_content text)
returns boolean language plpgsql set search_path = '' as $$
declare
  v_digest constant bytea := sha256(convert_to(p_content, 'UTF8'));
begin
  insert into bot_runtime.event_keys (bot_id, key, digest) values (p_bot_id, p_key, v_digest) on conflict do nothing;
  if found then
    return true;
  end if;
  perform 1 from bot_runtime.event_keys where bot_id = p_bot_id and key = p_key and digest = v_digest;
  if not found then
    perform bot_runtime.refuse('PT422', 'key_conflict', p_name || ': known with another payload');
  end if;
  return false;
end $$;
comment on function bot_runtime.is_new_key(uuid, text, text, text) is
  'Takes a key for a record of this content: true when it is new, false when it is known with the same content.';

create or replace function bot_runtime.happened_at(p_payload jsonb) returns timestamptz
language plpgsql stable set search_path = '' as $$
begin
  -- An event may call something else "at".
  return case when bot_runtime.is_time(p_payload ->> 'at') then (p_payload ->> 'at')::timestamptz
              else clock_timestamp() end;
end $$;
comment on function bot_runtime.happened_at(jsonb) is 'The time that a payload gives as `at`; now, when it gives none.';

create or replace function bot_runtime.apply_event(p_caller bot_runtime.caller, p_args jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_kind    text := bot_runtime.arg_text(p_args ->> 'p_kind', 'p_kind', '^[A-Za-z0-9][A-Za-z0-9_.:-]*$', 64);
  v_level   text := bot_runtime.arg_text(
    p_args ->> 'p_level', 'p_level', '^(debug|info|warning|error|critical)$', 16);
  v_key     text := bot_runtime.arg_text(p_args ->> 'p_key', 'p_key', '^[^#[:cntrl:]][^[:cntrl:]]*$', 512);
  v_payload jsonb := p_args -> 'p_payload';
begin
  perform bot_runtime.check_object(v_payload, 'p_payload');
  if not bot_runtime.is_new_key(p_caller.bot_id, 'p_key', v_key,
                                jsonb_build_array(v_kind, v_level, v_payload)::text) then
    return false;
  end if;
  insert into bot_runtime.bot_events (bot_id, kind, level, payload, key, epoch, at)
  values (p_caller.bot_id, v_kind, v_level, v_payload, v_key, coalesce(p_caller.epoch, p_caller.current_epoch),
    bot_runtime.happened_at(v_payload));
  return true;
end $$;
comment on function bot_runtime.apply_event(bot_runtime.caller, jsonb) is
  'The body of bot_runtime_write_event; whether the event is new.';

create or replace function public.bot_runtime_write_event(
  p_bot_id uuid, p_kind text, p_level text, p_payload jsonb, p_key text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
begin
  return jsonb_build_object('recorded', bot_runtime.apply_event(v_caller, jsonb_build_object(
    'p_kind', p_kind, 'p_level', p_level, 'p_payload', p_payload, 'p_key', p_key)));
end $$;
comment on function public.bot_runtime_write_event(uuid, text, text, jsonb, text) is
$c$Writes an event into the bot's log, once by its key; a fact, which any epoch may tell.
Result: {recorded}; false for a repeat.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid, key_conflict (the key is known with another content).
Argument p_kind: a word for what happened.
Argument p_level: debug, info, warning, error or critical.
Argument p_payload: an object of at most 64 KiB; `at`, an ISO time with zone, says when it happened.
Argument p_key: up to 512 characters, not beginning with #.$c$;

-- --------------------------------------------------------------------------------------------------- decisions, bars
create or replace function bot_runtime.apply_decision(p_caller bot_runtime.caller, p_args jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_kinds constant jsonb := '{
    "proposal_id": "line", "strategy": "name", "symbol": "symbol", "bar_open": "time", "verdict": "approved|refused",
    "purpose": "entry|pyramid|exit|stop|target|flatten|emergency|manual", "rule": "text", "detail": "text",
    "client_order_id": "id"}';
  v_row   bot_runtime.risk_decisions;
begin
  perform bot_runtime.check_fields(p_args -> 'p_payload', 'p_payload', v_kinds,
    array['proposal_id', 'symbol', 'bar_open', 'purpose', 'verdict']);
  v_row := jsonb_populate_record(v_row, p_args -> 'p_payload');
  v_row.strategy := nullif(v_row.strategy, '');
  -- Rule and detail are left out of the comparison: after a takeover the same proposal may be judged once more, by
  -- other figures, and the first verdict is the one that counted. The # keeps the key apart from events' keys.
  if not bot_runtime.is_new_key(p_caller.bot_id, 'p_payload.proposal_id',
      format('#decision:%s:%s', v_row.verdict, v_row.proposal_id),
      jsonb_build_array(v_row.strategy, v_row.symbol, bot_runtime.utc(v_row.bar_open), v_row.purpose)::text) then
    return false;
  end if;
  insert into bot_runtime.risk_decisions (bot_id, proposal_id, strategy, symbol, bar_open, purpose, verdict, rule,
    detail, client_order_id, epoch)
  values (p_caller.bot_id, v_row.proposal_id, v_row.strategy, v_row.symbol, v_row.bar_open, v_row.purpose,
    v_row.verdict, v_row.rule, v_row.detail, v_row.client_order_id, coalesce(p_caller.epoch, p_caller.current_epoch));
  return true;
end $$;
comment on function bot_runtime.apply_decision(bot_runtime.caller, jsonb) is
  'The body of bot_runtime_record_decision; whether the decision is new.';

create or replace function public.bot_runtime_record_decision(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
begin
  return jsonb_build_object('recorded',
    bot_runtime.apply_decision(v_caller, jsonb_build_object('p_payload', p_payload)));
end $$;
comment on function public.bot_runtime_record_decision(uuid, jsonb) is
$c$Records what risk made of a proposal, once by proposal and verdict; a fact, which any epoch may tell.
Result: {recorded}; false for a repeat, of which the first rule and detail stand.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid, key_conflict (the proposal is known of another strategy, symbol, bar or purpose).
Argument p_payload: proposal_id, symbol, bar_open (ISO time with zone), purpose (entry, pyramid, exit, stop, target,
flatten, emergency, manual) and verdict (approved, refused), all needed; strategy, rule, detail, client_order_id.$c$;

create or replace function bot_runtime.apply_cycle(p_caller bot_runtime.caller, p_args jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_kinds constant jsonb := '{
    "strategy": "name", "symbol": "symbol", "bar_open": "time", "close": "money", "proposals": "int",
    "outcome": "text", "detail": "text", "equity": "money"}';
  v_row   bot_runtime.cycle_trace;
begin
  perform bot_runtime.check_fields(p_args -> 'p_payload', 'p_payload', v_kinds,
    array['strategy', 'symbol', 'bar_open']);
  v_row := jsonb_populate_record(v_row, p_args -> 'p_payload');
  insert into bot_runtime.cycle_trace (bot_id, strategy, bar_open, symbol, close, proposals, outcome, detail, equity,
    epoch)
  values (p_caller.bot_id, v_row.strategy, v_row.bar_open, v_row.symbol, v_row.close, v_row.proposals, v_row.outcome,
    v_row.detail, v_row.equity, coalesce(p_caller.epoch, p_caller.current_epoch))
  on conflict (bot_id, strategy, bar_open) do nothing;
  return found;
end $$;
comment on function bot_runtime.apply_cycle(bot_runtime.caller, jsonb) is
  'The body of bot_runtime_record_cycle; whether the bar is new.';

create or replace function public.bot_runtime_record_cycle(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
begin
  return jsonb_build_object('recorded',
    bot_runtime.apply_cycle(v_caller, jsonb_build_object('p_payload', p_payload)));
end $$;
comment on function public.bot_runtime_record_cycle(uuid, jsonb) is
$c$Records what a strategy made of a bar, once by strategy and bar; a fact, which any epoch may tell.
Result: {recorded}; false when the bar is known: the first word stands.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid.
Argument p_payload: strategy, symbol and bar_open (ISO time with zone), needed; close, equity (money as text), proposals
(how many), outcome, detail.$c$;

-- ----------------------------------------------------------------------------------------------------------- notices
create or replace function bot_runtime.apply_notice(p_caller bot_runtime.caller, p_args jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  v_channel text := bot_runtime.arg_text(
    p_args ->> 'p_channel', 'p_channel', '^(in_app|email|slack|sms|pagerduty|webhook)$', 16);
  v_key     text := bot_runtime.arg_text(p_args ->> 'p_key', 'p_key', '^[^[:cntrl:]]+$', 512);
  v_payload jsonb := p_args -> 'p_payload';
begin
  perform bot_runtime.check_object(v_payload, 'p_payload');
  if v_channel = 'in_app' then
    insert into bot_runtime.notifications (bot_id, key, payload) values (p_caller.bot_id, v_key, v_payload)
    on conflict (bot_id, key) do nothing;
  else
    insert into bot_runtime.notification_queue (bot_id, channel, key, payload)
    values (p_caller.bot_id, v_channel, v_key, v_payload)
    on conflict (bot_id, channel, key) do nothing;
  end if;
  if found then
    return true;
  end if;
  perform 1 from bot_runtime.notifications
   where v_channel = 'in_app' and bot_id = p_caller.bot_id and key = v_key and payload = v_payload
  union all
  select 1 from bot_runtime.notification_queue
   where bot_id = p_caller.bot_id and key = v_key and channel = v_channel and payload = v_payload;
  if not found then
    perform bot_runtime.refuse('PT422', 'key_conflict', 'p_key: known with another payload');
  end if;
  return false;
end $$;
comment on function bot_runtime.apply_notice(bot_runtime.caller, jsonb) is
  'The body of bot_runtime_notify; whether the notice is new.';

create or replace function public.bot_runtime_notify(p_bot_id uuid, p_channel text, p_payload jsonb, p_key text)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
begin
  return jsonb_build_object('recorded', bot_runtime.apply_notice(v_caller, jsonb_build_object(
    'p_channel', p_channel, 'p_payload', p_payload, 'p_key', p_key)));
end $$;
comment on function public.bot_runtime_notify(uuid, text, jsonb, text) is
$c$Leaves a notice for people, once by its channel and key: in the console, or in the queue of what is to be sent.
Result: {recorded}; false for a repeat.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid (also an unknown channel), key_conflict (the channel has a notice of this key with another content).
Argument p_channel: in_app goes to notifications; email, slack, sms, pagerduty, webhook to notification_queue.
Argument p_payload: an object of at most 64 KiB.
Argument p_key: up to 512 characters.$c$;

create or replace function public.write_notification(p_bot_id uuid, p_channel text, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
  v_key    text := coalesce(p_payload ->> 'key', gen_random_uuid()::text);
begin
  return jsonb_build_object('key', v_key, 'recorded', bot_runtime.apply_notice(v_caller, jsonb_build_object(
    'p_channel', p_channel, 'p_payload', p_payload, 'p_key', v_key)));
end $$;
comment on function public.write_notification(uuid, text, jsonb) is
$c$Leaves a notice for people, as bot_runtime_notify does; each call is one more, unless the payload has a key.
Result: {key, recorded}; recorded is false for a repeat under the same key.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid (also an unknown channel), key_conflict.
Argument p_channel: in_app, email, slack, sms, pagerduty or webhook.
Argument p_payload: an object of at most 64 KiB; `key` makes repeats harmless.$c$;

-- ---------------------------------------------------------------------------------------------------- health evidence
create or replace function bot_runtime.deep_merge(p_row jsonb, p_patch jsonb, p_depth integer) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  v_merged jsonb := p_row || p_patch;
  v_key    text;
begin
  if p_depth > 8 then
    perform bot_runtime.invalid('p_patch', null, 'nested deeper than 8');
  end if;
  for v_key in select key from jsonb_each(p_patch)
                where jsonb_typeof(value) = 'object' and jsonb_typeof(p_row -> key) = 'object' loop
    v_merged := jsonb_set(v_merged, array[v_key],
                          bot_runtime.deep_merge(p_row -> v_key, p_patch -> v_key, p_depth + 1));
  end loop;
  return v_merged;
end $$;
comment on function bot_runtime.deep_merge(jsonb, jsonb, integer) is
  'An object with a patch on top: objects are merged key by key, anything else is replaced.';

create or replace function bot_runtime.apply_health(p_caller bot_runtime.caller, p_args jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_sections constant text[] := array['auth', 'market_data', 'strategy', 'orders', 'position_sync', 'db', 'actors',
    'runtime'];
  v_patch    constant jsonb := p_args -> 'p_patch';
  v_key      text;
  v_evidence jsonb;
begin
  perform bot_runtime.check_object(v_patch, 'p_patch');
  perform bot_runtime.check_keys(v_patch, 'p_patch', v_sections || array['schema', 'bot_id', 'boot_id', 'flushed_at',
    'reason', 'tier', 'in_position']);
  foreach v_key in array v_sections loop
    if v_patch ? v_key and jsonb_typeof(v_patch -> v_key) <> 'object' then
      perform bot_runtime.invalid('p_patch', v_key, 'not an object');
    end if;
  end loop;
  if p_caller.epoch < p_caller.current_epoch then
    perform bot_runtime.refuse('PT409', 'stale_epoch',
      format('epoch %s, the lease is at %s', p_caller.epoch, p_caller.current_epoch));
  end if;
  select evidence into v_evidence from bot_runtime.bot_health_evidence where bot_id = p_caller.bot_id;
  v_evidence := bot_runtime.deep_merge(coalesce(v_evidence, '{}'), v_patch, 1);
  perform bot_runtime.check_object(v_evidence, 'p_patch');
  insert into bot_runtime.bot_health_evidence (bot_id, evidence) values (p_caller.bot_id, v_evidence)
  on conflict (bot_id) do update set evidence = excluded.evidence, updated_at = clock_timestamp();
  return v_evidence;
end $$;
comment on function bot_runtime.apply_health(bot_runtime.caller, jsonb) is 'The body of upsert_bot_health_evidence.';

create or replace function public.upsert_bot_health_evidence(p_bot_id uuid, p_patch jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_claim_check(p_bot_id, false);
begin
  return bot_runtime.apply_health(v_caller, jsonb_build_object('p_patch', p_patch));
end $$;
comment on function public.upsert_bot_health_evidence(uuid, jsonb) is
$c$Merges a patch into the bot's health evidence, object by object; what the patch leaves out stays.
Result: the evidence as it stands afterwards.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (a lease is held, and not by the caller);
PT422 payload_invalid (an unknown key, a section that is no object, evidence above 64 KiB).
Argument p_patch: schema, bot_id, boot_id, flushed_at, reason, tier, in_position, and the sections auth, market_data,
strategy, orders, position_sync, db, actors, runtime.$c$;

revoke all on function public.bot_runtime_record_fill(uuid, jsonb) from public, anon, authenticated;
revoke all on function public.bot_runtime_write_event(uuid, text, text, jsonb, text) from public, anon, authenticated;
revoke all on function public.bot_runtime_record_decision(uuid, jsonb) from public, anon, authenticated;
revoke all on function public.bot_runtime_record_cycle(uuid, jsonb) from public, anon, authenticated;
revoke all on function public.bot_runtime_notify(uuid, text, jsonb, text) from public, anon, authenticated;
revoke all on function public.write_notification(uuid, text, jsonb) from public, anon, authenticated;
revoke all on function public.upsert_bot_health_evidence(uuid, jsonb) from public, anon, authenticated;
grant execute on function public.bot_runtime_record_fill(uuid, jsonb) to service_role;
grant execute on function public.bot_runtime_write_event(uuid, text, text, jsonb, text) to service_role;
grant execute on function public.bot_runtime_record_decision(uuid, jsonb) to service_role;
grant execute on function public.bot_runtime_record_cycle(uuid, jsonb) to service_role;
grant execute on function public.bot_runtime_notify(uuid, text, jsonb, text) to service_role;
grant execute on function public.write_notification(uuid, text, jsonb) to service_role;
grant execute on function public.upsert_bot_health_evidence(uuid, jsonb) to service_role;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
