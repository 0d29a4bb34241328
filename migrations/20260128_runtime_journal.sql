-- The journal of orders: where each stands, by the client's id and by the exchange's.
--
-- Facts come late, twice, and from processes that were fenced long ago. So a row is the join of all that was ever told
-- of its order: any order of arrival ends in the same row. Each function is authentication plus a body,
-- bot_runtime.apply_*, which the outbox and retried dead letters share.

-- No check constraints: PostgreSQL compiles them anew for each statement, and the functions check before.
alter table bot_runtime.bot_trades
  add column if not exists position_id            text,
  add column if not exists intent_id              text,
  add column if not exists strategy               text,
  add column if not exists status_rank            smallint not null default 1,
  add column if not exists is_open                boolean not null default true,
  add column if not exists side                   text,
  add column if not exists event                  text,
  add column if not exists order_type             text,
  add column if not exists order_price            numeric,
  add column if not exists stop_price             numeric,
  add column if not exists qty                    numeric,
  add column if not exists avg_fill_price         numeric,
  add column if not exists avg_filled_qty         numeric,
  add column if not exists reduce_only            boolean,
  add column if not exists layer                  integer,
  add column if not exists attempt                integer,
  add column if not exists bar_open               timestamptz,
  add column if not exists ordered_at             timestamptz,
  add column if not exists version                bigint,
  add column if not exists changed_at             timestamptz,
  add column if not exists change                 text,
  add column if not exists reason                 text,
  add column if not exists protection             jsonb,
  add column if not exists exchange_payload       jsonb,
  add column if not exists exchange_payload_stamp numeric[];
comment on column bot_runtime.bot_trades.status_rank is
  'Place of order_status in the order that a row only moves up in; see bot_runtime.read_trade.';
comment on column bot_runtime.bot_trades.avg_filled_qty is 'The filled quantity that avg_fill_price is the average of.';
comment on column bot_runtime.bot_trades.protection is
  'How a position that the order opens is guarded, so that a runtime without its store can guard it on.';
comment on column bot_runtime.bot_trades.ordered_at is
  'When the order was made, market time; created_at is the row''s.';
comment on column bot_runtime.bot_trades.exchange_payload_stamp is
  'Status, filled quantity and version of the row that exchange_payload came with: the furthest one is kept.';
comment on column bot_runtime.bot_trades.is_open is
  'Whether the order may still fill. An order that was taken for absent or rejected, and of which the exchange spoke '
  'afterwards, is open all the same.';
create index if not exists bot_trades_open_idx on bot_runtime.bot_trades (bot_id, id) where is_open;

-- ------------------------------------------------------------------------------------------------------------ orders
create or replace function bot_runtime.trade_json(p_row bot_runtime.bot_trades) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'id', p_row.id, 'bot_id', p_row.bot_id, 'client_order_id', p_row.client_order_id,
    'exchange_order_id', p_row.exchange_order_id, 'position_id', p_row.position_id, 'intent_id', p_row.intent_id,
    'symbol', p_row.symbol, 'strategy', p_row.strategy, 'side', p_row.side, 'event', p_row.event,
    'order_type', p_row.order_type, 'order_status', p_row.order_status,
    'order_price', bot_runtime.as_text(p_row.order_price), 'stop_price', bot_runtime.as_text(p_row.stop_price),
    'qty', bot_runtime.as_text(p_row.qty), 'filled_qty', bot_runtime.as_text(p_row.filled_qty),
    'avg_fill_price', bot_runtime.as_text(p_row.avg_fill_price), 'reduce_only', p_row.reduce_only,
    'layer', p_row.layer, 'attempt', p_row.attempt, 'bar_open', bot_runtime.utc(p_row.bar_open),
    'created_at', bot_runtime.utc(p_row.ordered_at), 'changed_at', bot_runtime.utc(p_row.changed_at),
    'change', p_row.change, 'reason', p_row.reason, 'version', p_row.version, 'protection', p_row.protection,
    'exchange_payload', p_row.exchange_payload, 'epoch', p_row.epoch,
    'recorded_at', bot_runtime.utc(p_row.created_at), 'updated_at', bot_runtime.utc(p_row.updated_at));
end $$;
comment on function bot_runtime.trade_json(bot_runtime.bot_trades) is
  'An order as the functions return it: money as text, times in UTC, created_at the order''s own.';

-- The ranks: UNKNOWN stands below ACCEPTED, since silence after an acceptance is no evidence against what the exchange
-- had said. Of the ends, one that says the order never was yields to any that says it was, and FILLED yields to none:
-- the last fill may arrive after the word that the order was cancelled.
create or replace function bot_runtime.read_trade(p jsonb) returns bot_runtime.bot_trades
language plpgsql stable set search_path = '' as $$
declare
  v_ranks constant text[] := array['drafted', 'recorded', 'submitted', 'unknown', 'accepted', 'partially_filled',
    'absent', 'rejected', 'simulated', 'expired', 'canceled', 'filled'];
  v_kinds constant jsonb := '{
    "client_order_id": "id", "exchange_order_id": "id", "position_id": "id", "intent_id": "line", "symbol": "symbol",
    "strategy": "name", "side": "buy|sell", "order_type": "name",
    "event": "entry|pyramid|exit|stop|target|flatten|emergency|manual",
    "order_status": "text",
    "order_price": "money", "stop_price": "money", "qty": "money", "filled_qty": "money", "avg_fill_price": "money",
    "reduce_only": "bool", "layer": "int", "attempt": "int", "bar_open": "time", "created_at": "time",
    "changed_at": "time", "change": "text", "reason": "text", "version": "bigint", "protection": "object",
    "exchange_payload": "object"}';
  v_row   bot_runtime.bot_trades;
begin
  perform bot_runtime.check_fields(p, 'p_payload', v_kinds);
  v_row := jsonb_populate_record(v_row, p);
  v_row.strategy := nullif(v_row.strategy, '');
  v_row.ordered_at := v_row.created_at;
  v_row.created_at := null;
  v_row.filled_qty := coalesce(v_row.filled_qty, 0);
  v_row.avg_filled_qty := case when v_row.avg_fill_price is not null then v_row.filled_qty end;
  v_row.status_rank := array_position(v_ranks, v_row.order_status);
  if v_row.order_status <> all (v_ranks) then
    perform bot_runtime.invalid('p_payload', 'order_status', 'not one of ' || array_to_string(v_ranks, ', '));
  elsif v_row.filled_qty < 0 then
    perform bot_runtime.invalid('p_payload', 'filled_qty', 'negative');
  end if;
  return v_row;
end $$;
comment on function bot_runtime.read_trade(jsonb) is
  'An order''s payload as a row, absent keys null; refuses what is malformed or unknown.';

create or replace function bot_runtime.is_open(p_status text, p_change text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  return p_status not in ('filled', 'canceled', 'expired', 'simulated')
     and (p_status not in ('absent', 'rejected') or coalesce(p_change in ('accepted', 'fill', 'found_behind'), false));
end $$;
comment on function bot_runtime.is_open(text, text) is
  'Whether an order of this status may still fill, by the last change that was told of it.';

-- A maximum in every column, or in a group of columns that are told together, so that neither order of arrival nor
-- repetition shows. What an order was made with does not change; if two writes differ in it all the same, the greater
-- one stands, which is arbitrary but the same for everybody.
create or replace function bot_runtime.join_trade(
  p_row bot_runtime.bot_trades, p_given bot_runtime.bot_trades) returns bot_runtime.bot_trades
language plpgsql immutable set search_path = '' as $$
begin
  p_row.client_order_id := coalesce(p_row.client_order_id, p_given.client_order_id);
  p_row.exchange_order_id := coalesce(p_row.exchange_order_id, p_given.exchange_order_id);
  p_row.position_id := greatest(p_row.position_id, p_given.position_id);
  p_row.intent_id := greatest(p_row.intent_id, p_given.intent_id);
  p_row.symbol := greatest(p_row.symbol, p_given.symbol);
  p_row.strategy := greatest(p_row.strategy, p_given.strategy);
  p_row.side := greatest(p_row.side, p_given.side);
  p_row.event := greatest(p_row.event, p_given.event);
  p_row.order_type := greatest(p_row.order_type, p_given.order_type);
  p_row.order_price := greatest(p_row.order_price, p_given.order_price);
  p_row.stop_price := greatest(p_row.stop_price, p_given.stop_price);
  p_row.qty := greatest(p_row.qty, p_given.qty);
  p_row.filled_qty := greatest(p_row.filled_qty, p_given.filled_qty);
  p_row.reduce_only := greatest(p_row.reduce_only, p_given.reduce_only);
  p_row.layer := greatest(p_row.layer, p_given.layer);
  p_row.attempt := greatest(p_row.attempt, p_given.attempt);
  p_row.bar_open := greatest(p_row.bar_open, p_given.bar_open);
  p_row.ordered_at := greatest(p_row.ordered_at, p_given.ordered_at);
  p_row.protection := greatest(p_row.protection, p_given.protection);
  p_row.epoch := greatest(p_row.epoch, p_given.epoch);
  if p_given.status_rank > p_row.status_rank then
    p_row.status_rank := p_given.status_rank;
    p_row.order_status := p_given.order_status;
  end if;
  if p_given.avg_fill_price is not null
     and (p_row.avg_fill_price is null
          or (p_given.avg_filled_qty, p_given.avg_fill_price) > (p_row.avg_filled_qty, p_row.avg_fill_price)) then
    p_row.avg_filled_qty := p_given.avg_filled_qty;
    p_row.avg_fill_price := p_given.avg_fill_price;
  end if;
  if (coalesce(p_given.version, -1), coalesce(p_given.changed_at, '-infinity'), coalesce(p_given.change, ''),
      coalesce(p_given.reason, ''))
     > (coalesce(p_row.version, -1), coalesce(p_row.changed_at, '-infinity'), coalesce(p_row.change, ''),
        coalesce(p_row.reason, '')) then
    p_row.version := p_given.version;
    p_row.changed_at := p_given.changed_at;
    p_row.change := p_given.change;
    p_row.reason := p_given.reason;
  end if;
  if p_given.exchange_payload is not null
     and (p_row.exchange_payload is null
          or (p_given.exchange_payload_stamp, p_given.exchange_payload)
             > (p_row.exchange_payload_stamp, p_row.exchange_payload)) then
    p_row.exchange_payload := p_given.exchange_payload;
    p_row.exchange_payload_stamp := p_given.exchange_payload_stamp;
  end if;
  p_row.is_open := bot_runtime.is_open(p_row.order_status, p_row.change);
  return p_row;
end $$;
comment on function bot_runtime.join_trade(bot_runtime.bot_trades, bot_runtime.bot_trades) is
  'What is known of an order from two sources: commutative, associative and idempotent.';

create or replace function bot_runtime.write_trade(p_row bot_runtime.bot_trades) returns bot_runtime.bot_trades
language plpgsql set search_path = '' as $$
declare
  v_row bot_runtime.bot_trades;
begin
  if p_row.id is null then
    insert into bot_runtime.bot_trades (bot_id, client_order_id, exchange_order_id, symbol, order_status, status_rank,
      is_open, filled_qty, epoch, position_id, intent_id, strategy, side, event, order_type, order_price, stop_price,
      qty, avg_fill_price, avg_filled_qty, reduce_only, layer, attempt, bar_open, ordered_at, version, changed_at,
      change, reason, protection, exchange_payload, exchange_payload_stamp)
    values (p_row.bot_id, p_row.client_order_id, p_row.exchange_order_id, p_row.symbol, p_row.order_status,
      p_row.status_rank, bot_runtime.is_open(p_row.order_status, p_row.change), p_row.filled_qty, p_row.epoch,
      p_row.position_id, p_row.intent_id, p_row.strategy, p_row.side, p_row.event, p_row.order_type,
      p_row.order_price, p_row.stop_price, p_row.qty, p_row.avg_fill_price, p_row.avg_filled_qty,
      p_row.reduce_only, p_row.layer, p_row.attempt, p_row.bar_open, p_row.ordered_at,
      p_row.version, p_row.changed_at, p_row.change, p_row.reason, p_row.protection,
      p_row.exchange_payload, p_row.exchange_payload_stamp)
    returning * into v_row;
    return v_row;
  end if;
  update bot_runtime.bot_trades set
    client_order_id = p_row.client_order_id, exchange_order_id = p_row.exchange_order_id, symbol = p_row.symbol,
    order_status = p_row.order_status, status_rank = p_row.status_rank, is_open = p_row.is_open,
    filled_qty = p_row.filled_qty,
    epoch = p_row.epoch, position_id = p_row.position_id, intent_id = p_row.intent_id, strategy = p_row.strategy,
    side = p_row.side, event = p_row.event, order_type = p_row.order_type, order_price = p_row.order_price,
    stop_price = p_row.stop_price, qty = p_row.qty, avg_fill_price = p_row.avg_fill_price,
    avg_filled_qty = p_row.avg_filled_qty, reduce_only = p_row.reduce_only, layer = p_row.layer,
    attempt = p_row.attempt, bar_open = p_row.bar_open, ordered_at = p_row.ordered_at, version = p_row.version,
    changed_at = p_row.changed_at, change = p_row.change, reason = p_row.reason, protection = p_row.protection,
    exchange_payload = p_row.exchange_payload, exchange_payload_stamp = p_row.exchange_payload_stamp,
    updated_at = clock_timestamp()
  where id = p_row.id
  returning * into v_row;
  return v_row;
end $$;
comment on function bot_runtime.write_trade(bot_runtime.bot_trades) is
  'Writes a whole order row: a new one, or in the place of the one with its id.';

create or replace function bot_runtime.merge_trade(
  p_caller bot_runtime.caller, p_given bot_runtime.bot_trades) returns bot_runtime.bot_trades
language plpgsql set search_path = '' as $$
declare
  v_row   bot_runtime.bot_trades;
  v_other bot_runtime.bot_trades;
  v_next  bot_runtime.bot_trades;
begin
  p_given.bot_id := p_caller.bot_id;
  p_given.epoch := coalesce(p_caller.epoch, p_caller.current_epoch);
  if p_given.order_status is null then
    -- Without a word on its status, an order that the exchange has an id for is one that it accepted.
    p_given.order_status := case when p_given.exchange_order_id is null then 'drafted' else 'accepted' end;
    p_given.status_rank := case when p_given.exchange_order_id is null then 1 else 5 end;
  end if;
  if p_given.exchange_payload is not null then
    p_given.exchange_payload_stamp := array[p_given.status_rank, p_given.filled_qty, coalesce(p_given.version, -1)];
  end if;
  select * into v_row from bot_runtime.bot_trades
   where bot_id = p_caller.bot_id and client_order_id = p_given.client_order_id;
  if p_given.exchange_order_id is distinct from v_row.exchange_order_id and p_given.exchange_order_id is not null then
    select * into v_other from bot_runtime.bot_trades
     where bot_id = p_caller.bot_id and exchange_order_id = p_given.exchange_order_id;
    if v_row.exchange_order_id is not null or v_other.client_order_id <> p_given.client_order_id then
      perform bot_runtime.refuse('PT422', 'exchange_order_id_conflict', format(
        'p_exchange_order_id: %s, order %s has %s', p_given.exchange_order_id,
        coalesce(v_other.client_order_id, p_given.client_order_id),
        coalesce(v_row.exchange_order_id, v_other.exchange_order_id)));
    elsif v_row.id is null then
      v_row := v_other;
    elsif v_other.id is not null then
      -- Two sources told of one order, each under its own id, and only now it shows.
      delete from bot_runtime.bot_trades where id = v_other.id;
      p_given := bot_runtime.join_trade(p_given, v_other);
    end if;
  end if;
  if v_row.id is null then
    if p_given.symbol is null then
      perform bot_runtime.invalid('p_payload', 'symbol', 'missing');
    end if;
    return bot_runtime.write_trade(p_given);
  end if;
  v_next := bot_runtime.join_trade(v_row, p_given);
  if v_next is not distinct from v_row then
    return v_row;
  end if;
  return bot_runtime.write_trade(v_next);
end $$;
comment on function bot_runtime.merge_trade(bot_runtime.caller, bot_runtime.bot_trades) is
  'Joins what is told of an order with what is known of it under either of its ids.';

create or replace function bot_runtime.apply_trade(p_caller bot_runtime.caller, p_args jsonb)
returns bot_runtime.bot_trades language plpgsql set search_path = '' as $$
declare
  v_id       constant text := '^[A-Za-z0-9][A-Za-z0-9._:/|-]*$';
  v_given    bot_runtime.bot_trades;
  v_client   text := bot_runtime.arg_text(p_args ->> 'p_client_order_id', 'p_client_order_id', v_id, 128);
  v_exchange text := p_args ->> 'p_exchange_order_id';
begin
  if v_exchange is not null then
    perform bot_runtime.arg_text(v_exchange, 'p_exchange_order_id', v_id, 128);
  end if;
  v_given := bot_runtime.read_trade(coalesce(p_args -> 'p_payload', '{}'));
  if v_given.client_order_id <> v_client then
    perform bot_runtime.invalid('p_payload', 'client_order_id', 'not p_client_order_id');
  elsif v_given.exchange_order_id <> v_exchange then
    perform bot_runtime.invalid('p_payload', 'exchange_order_id', 'not p_exchange_order_id');
  end if;
  v_given.client_order_id := v_client;
  v_given.exchange_order_id := coalesce(v_exchange, v_given.exchange_order_id);
  return bot_runtime.merge_trade(p_caller, v_given);
end $$;
comment on function bot_runtime.apply_trade(bot_runtime.caller, jsonb) is 'The body of bot_runtime_upsert_trade.';

create or replace function public.bot_runtime_upsert_trade(
  p_bot_id uuid, p_client_order_id text, p_exchange_order_id text default null, p_payload jsonb default '{}')
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
begin
  return bot_runtime.trade_json(bot_runtime.apply_trade(v_caller, jsonb_build_object(
    'p_client_order_id', p_client_order_id, 'p_exchange_order_id', p_exchange_order_id, 'p_payload', p_payload)));
end $$;
comment on function public.bot_runtime_upsert_trade(uuid, text, text, jsonb) is
$c$Tells how an order stands; a fact, which any epoch may tell, twice and in any order.
Result: the row of bot_trades as it stands afterwards, with money as text.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid, exchange_order_id_conflict (the order is known under another id of the exchange, or the id as another
order's).
Argument p_client_order_id: the id that the order was sent with.
Argument p_exchange_order_id: the exchange's id, null until it gave one.
Argument p_payload: order_status (drafted, recorded, submitted, unknown, accepted, partially_filled, absent, rejected,
simulated, expired, canceled, filled: the row moves up in this order only), filled_qty (never shrinks), avg_fill_price,
order_price, stop_price, qty (money as text), symbol (needed for a new order), side (buy, sell), event (entry, pyramid,
exit, stop, target, flatten, emergency, manual), order_type, strategy, reduce_only, layer, attempt, position_id,
intent_id, bar_open, created_at (ISO times with zone), protection (object: how a position that the order opens is
guarded), exchange_payload (object: the one of the furthest row is kept), and of the change itself version, changed_at,
change, reason: those of the highest version are kept. Without order_status an order with an exchange id counts as
accepted, one without as drafted.$c$;

create or replace function public.upsert_bot_trade(p_bot_id uuid, p_exchange_order_id text, p_payload jsonb)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller   bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
  v_exchange text := bot_runtime.arg_text(
    p_exchange_order_id, 'p_exchange_order_id', '^[A-Za-z0-9][A-Za-z0-9._:/|-]*$', 128);
  v_given    bot_runtime.bot_trades := bot_runtime.read_trade(p_payload);
begin
  if v_given.exchange_order_id <> v_exchange then
    perform bot_runtime.invalid('p_payload', 'exchange_order_id', 'not p_exchange_order_id');
  end if;
  v_given.exchange_order_id := v_exchange;
  return bot_runtime.trade_json(bot_runtime.merge_trade(v_caller, v_given));
end $$;
comment on function public.upsert_bot_trade(uuid, text, jsonb) is
$c$Tells how an order stands, by the exchange's id; joined with what bot_runtime_upsert_trade knows of it.
Result: the row of bot_trades as it stands afterwards, with money as text.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (an epoch that never was); PT422
payload_invalid (also an empty p_exchange_order_id), exchange_order_id_conflict.
Argument p_exchange_order_id: the exchange's id.
Argument p_payload: the keys of bot_runtime_upsert_trade; client_order_id may be among them.$c$;

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
        where p.bot_id = p_bot_id and p.status = 'open'));
end $$;
comment on function public.bot_runtime_get_open_trades(uuid, text) is
$c$Reads the orders that may still fill and those that opened a position, for a runtime that has lost its own store.
Result: an array of rows of bot_trades with money as text, oldest first: all that are not filled, canceled, expired,
simulated, absent or rejected, those of the last two that the exchange has spoken of afterwards, and the entry of each
open position.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid (p_symbol).
Argument p_symbol: only this symbol's; null for any.$c$;

revoke all on function public.bot_runtime_upsert_trade(uuid, text, text, jsonb) from public, anon, authenticated;
revoke all on function public.upsert_bot_trade(uuid, text, jsonb) from public, anon, authenticated;
revoke all on function public.bot_runtime_get_open_trades(uuid, text) from public, anon, authenticated;
grant execute on function public.bot_runtime_upsert_trade(uuid, text, text, jsonb) to service_role;
grant execute on function public.upsert_bot_trade(uuid, text, jsonb) to service_role;
grant execute on function public.bot_runtime_get_open_trades(uuid, text) to service_role;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
