-- Positions as the exchange has them: what is known of each, who may say so, and bot_state kept in step.
--
-- Two kinds of writers. A *fact* carries `seq`, the account event that made the position so; facts come late, twice and
-- from fenced processes, so each row is the join of the facts told about it, nearly all of it whatever their order (see
-- join_position). A *snapshot* has no `seq`: it is what the present owner sees, and only the present owner may tell it.

-- No check constraints: PostgreSQL compiles them anew for each statement, and the functions check before.
alter table bot_runtime.bot_positions
  add column if not exists position_side           text,
  add column if not exists mark_price              numeric,
  add column if not exists unrealized_pnl          numeric,
  add column if not exists realized_pnl            numeric,
  add column if not exists exchange                text,
  add column if not exists margin_mode             text,
  add column if not exists exchange_payload        jsonb,
  add column if not exists entry_exchange_order_id text,
  add column if not exists entry_client_order_id   text,
  add column if not exists exit_exchange_order_id  text,
  add column if not exists exit_client_order_id    text,
  add column if not exists opened_at               timestamptz,
  add column if not exists bar_open                timestamptz,
  add column if not exists layers                  integer,
  add column if not exists revision                integer,
  add column if not exists best_price              numeric,
  add column if not exists open_seq                bigint,
  add column if not exists last_exchange_sync_at   timestamptz;
comment on column bot_runtime.bot_positions.open_seq is
  'The newest account event that told this position open: side, entry and layers are its word, also when the event '
  'that closed the position arrived before it.';
-- No index beyond the keys: a bot has few rows here, and each batch rewrites them in their page.

-- ------------------------------------------------------------------------------------------------- bot_state follows
create or replace function bot_runtime.state_follows_position() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_bot_id uuid := coalesce(new.bot_id, old.bot_id);
  v_shown  record;
  v_open   bigint;
begin
  select p.*, count(*) over () as open_positions into v_shown from bot_runtime.bot_positions p
   where bot_id = v_bot_id and status = 'open'
   order by opened_at desc nulls last, symbol, strategy limit 1;
  v_open := coalesce(v_shown.open_positions, 0);
  insert into bot_runtime.bot_state as s (bot_id, in_position, open_positions, position_id, position_symbol,
    position_side, position_qty, position_entry, mark_price, unrealized_pnl)
  values (v_bot_id, v_open > 0, v_open, v_shown.position_id, v_shown.symbol, v_shown.position_side, v_shown.qty,
    v_shown.entry_price, v_shown.mark_price, v_shown.unrealized_pnl)
  on conflict (bot_id) do update set
    in_position = excluded.in_position, open_positions = excluded.open_positions, position_id = excluded.position_id,
    position_symbol = excluded.position_symbol, position_side = excluded.position_side,
    position_qty = excluded.position_qty, position_entry = excluded.position_entry,
    -- The heartbeat tells these two as well: a position that doesn't know them takes nothing back, a closed one does.
    mark_price = coalesce(excluded.mark_price, s.mark_price),
    unrealized_pnl = case when v_open > 0 then coalesce(excluded.unrealized_pnl, s.unrealized_pnl) end,
    updated_at = clock_timestamp();
  return null;
end $$;
comment on function bot_runtime.state_follows_position() is
  'Keeps the position columns of bot_state; of several open positions it shows the latest opened.';

drop trigger if exists state_follows_new_position on bot_runtime.bot_positions;
create trigger state_follows_new_position after insert or delete on bot_runtime.bot_positions
  for each row execute function bot_runtime.state_follows_position();
drop trigger if exists state_follows_position on bot_runtime.bot_positions;
create trigger state_follows_position after update on bot_runtime.bot_positions
  for each row when (
    (old.status, old.position_id, old.position_side, old.qty, old.entry_price, old.mark_price, old.unrealized_pnl,
     old.opened_at)
    is distinct from
    (new.status, new.position_id, new.position_side, new.qty, new.entry_price, new.mark_price, new.unrealized_pnl,
     new.opened_at))
  execute function bot_runtime.state_follows_position();

-- ---------------------------------------------------------------------------------------------- fields of a payload
-- One loop looks at all fields of a payload: a call for each would take most of the time that a batch of the outbox
-- has. For the same reason no pattern has a bounded repetition, which is fifty times slower than a plain one and a
-- length. Amounts may be as long as the runtime's own: an average price has 34 digits, wherever the point is.
create or replace function bot_runtime.check_fields(p jsonb, p_name text, p_kinds jsonb, p_needed text[] default '{}')
returns void language plpgsql stable set search_path = '' as $$
declare
  v_key  text;
  v_type text;
  v_word text;
  v_kind text;
  v_good boolean;
begin
  perform bot_runtime.check_object(p, p_name);
  for v_key, v_type, v_word in select f.key, jsonb_typeof(f.value), f.value #>> '{}' from jsonb_each(p) f loop
    v_kind := p_kinds ->> v_key;
    continue when v_type = 'null' and v_kind is not null;
    if v_type = 'string' then
      v_good := case v_kind
        when 'money'  then v_word ~ '^-?[0-9]+(\.[0-9]+)?$' and length(v_word) <= 200
        when 'time'   then bot_runtime.is_time(v_word)
        when 'id'     then v_word ~ '^[A-Za-z0-9][A-Za-z0-9._:/|-]*$' and length(v_word) <= 128
        when 'name'   then v_word ~ '^([A-Za-z0-9][A-Za-z0-9 ._:/|-]*)?$' and length(v_word) <= 128
        when 'symbol' then bot_runtime.is_symbol(v_word)
        when 'text'   then true
        when 'line'   then v_word !~ '[[:cntrl:]]' and length(v_word) <= 480
        when 'int'    then v_word ~ '^[0-9]+$' and length(v_word) <= 9
        when 'bigint' then v_word ~ '^[0-9]+$' and length(v_word) <= 18
        when 'bool'   then false
        when 'object' then false
        else v_word = any (string_to_array(v_kind, '|')) end;
    elsif v_type = 'number' then
      v_good := v_kind in ('int', 'bigint') and v_word ~ '^[0-9]+$'
                and length(v_word) <= case v_kind when 'int' then 9 else 18 end;
    else
      v_good := v_type = 'boolean' and v_kind = 'bool' or v_type = 'object' and v_kind = 'object';
    end if;
    if v_good is not true then
      perform bot_runtime.invalid(p_name, left(v_key, 64), case
        when v_kind is null then 'unknown'
        when v_kind = 'money' then 'not a decimal as text'
        when v_kind = 'time' then 'not an ISO time with its zone'
        when v_kind in ('int', 'bigint') then 'not a whole number'
        when v_kind = 'bool' then 'not true or false'
        when v_kind = 'object' then 'not an object'
        when v_kind ~ '[|]' then 'not one of ' || replace(v_kind, '|', ', ')
        else 'malformed' end);
    end if;
  end loop;
  foreach v_key in array p_needed loop
    if coalesce(p ->> v_key, '') = '' then
      perform bot_runtime.invalid(p_name, v_key, 'missing');
    end if;
  end loop;
end $$;
comment on function bot_runtime.check_fields(jsonb, text, jsonb, text[]) is
  'Refuses a payload that is no object, or has a field that is unknown, malformed, or needed and missing. Kinds are '
  'money, time, int (9 digits), bigint (18), bool, object, id, name (maybe empty), symbol, line, text, or words a|b|c.';

create or replace function bot_runtime.is_symbol(p_text text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  -- Exchanges name markets in any script, but with no blanks, brackets, quotes, or marks that turn the writing around.
  return p_text !~ '[[:space:][:cntrl:]''"\\;,()<>{}\[\]\u200b-\u200f\u202a-\u202e\u2066-\u2069]'
     and length(p_text) between 1 and 128;
end $$;
comment on function bot_runtime.is_symbol(text) is 'Whether a text may be the name of a market.';

create or replace function bot_runtime.is_time(p_text text) returns boolean
language plpgsql immutable set search_path = '' as $$
begin
  return case
    when p_text !~ ('^[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]+)?'
                    '(Z|[+-][01][0-9]:?[0-5][0-9])$')
      or length(p_text) > 40 or p_text < '0001' or substr(p_text, 6, 2) not between '01' and '12'
      or substr(p_text, 12, 2) > '23' or substring(p_text from '[+-]([01][0-9]):?[0-5][0-9]$') > '14' then false
    when substr(p_text, 9, 2) between '01' and '28' then true
    -- Only the last days of a month can be no days at all.
    else substr(p_text, 9, 2)::integer between 1
         and extract(day from (substr(p_text, 1, 7) || '-01')::date + interval '1 month - 1 day') end;
end $$;
comment on function bot_runtime.is_time(text) is
  'Whether a text is an ISO-8601 time with its zone, of a day that exists.';

-- ------------------------------------------------------------------------------------------------------------- rows
create or replace function bot_runtime.position_json(p_row bot_runtime.bot_positions) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return jsonb_build_object(
    'bot_id', p_row.bot_id, 'position_id', p_row.position_id, 'symbol', p_row.symbol, 'strategy', p_row.strategy,
    'status', p_row.status, 'position_side', p_row.position_side, 'qty', bot_runtime.as_text(p_row.qty),
    'entry_price', bot_runtime.as_text(p_row.entry_price), 'mark_price', bot_runtime.as_text(p_row.mark_price),
    'unrealized_pnl', bot_runtime.as_text(p_row.unrealized_pnl),
    'realized_pnl', bot_runtime.as_text(p_row.realized_pnl), 'best_price', bot_runtime.as_text(p_row.best_price),
    'exchange', p_row.exchange, 'margin_mode', p_row.margin_mode, 'exchange_payload', p_row.exchange_payload,
    'entry_exchange_order_id', p_row.entry_exchange_order_id, 'entry_client_order_id', p_row.entry_client_order_id,
    'exit_exchange_order_id', p_row.exit_exchange_order_id, 'exit_client_order_id', p_row.exit_client_order_id,
    'opened_at', bot_runtime.utc(p_row.opened_at), 'bar_open', bot_runtime.utc(p_row.bar_open),
    'layers', p_row.layers, 'revision', p_row.revision, 'seq', p_row.seq, 'epoch', p_row.epoch,
    'last_exchange_sync_at', bot_runtime.utc(p_row.last_exchange_sync_at),
    'created_at', bot_runtime.utc(p_row.created_at), 'updated_at', bot_runtime.utc(p_row.updated_at));
end $$;
comment on function bot_runtime.position_json(bot_runtime.bot_positions) is
  'A position as the functions return it: money as text, times in UTC.';

create or replace function bot_runtime.read_position(p jsonb) returns bot_runtime.bot_positions
language plpgsql stable set search_path = '' as $$
declare
  v_kinds constant jsonb := '{
    "position_id": "id", "symbol": "symbol", "strategy": "name", "status": "open|closed",
    "position_side": "long|short", "qty": "money", "entry_price": "money", "mark_price": "money",
    "unrealized_pnl": "money", "realized_pnl": "money", "best_price": "money", "exchange": "name",
    "margin_mode": "name", "exchange_payload": "object", "entry_exchange_order_id": "id",
    "entry_client_order_id": "id", "exit_exchange_order_id": "id", "exit_client_order_id": "id",
    "opened_at": "time", "bar_open": "time", "last_exchange_sync_at": "time", "layers": "int", "revision": "int",
    "seq": "bigint"}';
  v_row   bot_runtime.bot_positions;
begin
  perform bot_runtime.check_fields(p, 'p_payload', v_kinds);
  v_row := jsonb_populate_record(v_row, p);
  v_row.strategy := nullif(v_row.strategy, '');
  v_row.qty := coalesce(v_row.qty, case when v_row.status = 'closed' then 0 end);
  return v_row;
end $$;
comment on function bot_runtime.read_position(jsonb) is
  'A position payload as a row; absent keys are null, but the quantity of a closed one is 0. Refuses what is malformed '
  'or unknown.';

create or replace function bot_runtime.write_position(p_row bot_runtime.bot_positions) returns bot_runtime.bot_positions
language plpgsql set search_path = '' as $$
declare
  v_row bot_runtime.bot_positions;
begin
  insert into bot_runtime.bot_positions (bot_id, symbol, strategy, position_id, status, qty, entry_price, seq, epoch,
    position_side, mark_price, unrealized_pnl, realized_pnl, exchange, margin_mode, exchange_payload,
    entry_exchange_order_id, entry_client_order_id, exit_exchange_order_id, exit_client_order_id, opened_at, bar_open,
    layers, revision, best_price, open_seq, last_exchange_sync_at, created_at)
  values (p_row.bot_id, p_row.symbol, p_row.strategy, p_row.position_id, p_row.status, p_row.qty, p_row.entry_price,
    p_row.seq, p_row.epoch, p_row.position_side, p_row.mark_price, p_row.unrealized_pnl, p_row.realized_pnl,
    p_row.exchange, p_row.margin_mode, p_row.exchange_payload, p_row.entry_exchange_order_id,
    p_row.entry_client_order_id, p_row.exit_exchange_order_id, p_row.exit_client_order_id, p_row.opened_at,
    p_row.bar_open, p_row.layers, p_row.revision, p_row.best_price, p_row.open_seq, p_row.last_exchange_sync_at,
    coalesce(p_row.created_at, clock_timestamp()))
  on conflict (bot_id, symbol, strategy) do update set
    position_id = excluded.position_id, status = excluded.status, qty = excluded.qty,
    entry_price = excluded.entry_price, seq = excluded.seq, epoch = excluded.epoch,
    position_side = excluded.position_side, mark_price = excluded.mark_price,
    unrealized_pnl = excluded.unrealized_pnl, realized_pnl = excluded.realized_pnl, exchange = excluded.exchange,
    margin_mode = excluded.margin_mode, exchange_payload = excluded.exchange_payload,
    entry_exchange_order_id = excluded.entry_exchange_order_id,
    entry_client_order_id = excluded.entry_client_order_id,
    exit_exchange_order_id = excluded.exit_exchange_order_id, exit_client_order_id = excluded.exit_client_order_id,
    opened_at = excluded.opened_at, bar_open = excluded.bar_open, layers = excluded.layers,
    revision = excluded.revision, best_price = excluded.best_price, open_seq = excluded.open_seq,
    last_exchange_sync_at = excluded.last_exchange_sync_at, created_at = excluded.created_at,
    updated_at = clock_timestamp()
  returning * into v_row;
  return v_row;
end $$;
comment on function bot_runtime.write_position(bot_runtime.bot_positions) is
  'Puts a whole row in its place, whatever stood there.';

-- ----------------------------------------------------------------------------------------------------------- writing
create or replace function bot_runtime.position_with(
  p_row bot_runtime.bot_positions, p_first bot_runtime.bot_positions, p_second bot_runtime.bot_positions)
returns bot_runtime.bot_positions language plpgsql immutable set search_path = '' as $$
begin
  p_row.mark_price := coalesce(p_first.mark_price, p_second.mark_price);
  p_row.unrealized_pnl := coalesce(p_first.unrealized_pnl, p_second.unrealized_pnl);
  p_row.realized_pnl := coalesce(p_first.realized_pnl, p_second.realized_pnl);
  p_row.exchange := coalesce(p_first.exchange, p_second.exchange);
  p_row.margin_mode := coalesce(p_first.margin_mode, p_second.margin_mode);
  p_row.exchange_payload := coalesce(p_first.exchange_payload, p_second.exchange_payload);
  p_row.entry_exchange_order_id := coalesce(p_first.entry_exchange_order_id, p_second.entry_exchange_order_id);
  p_row.entry_client_order_id := coalesce(p_first.entry_client_order_id, p_second.entry_client_order_id);
  p_row.exit_exchange_order_id := coalesce(p_first.exit_exchange_order_id, p_second.exit_exchange_order_id);
  p_row.exit_client_order_id := coalesce(p_first.exit_client_order_id, p_second.exit_client_order_id);
  p_row.last_exchange_sync_at := greatest(p_first.last_exchange_sync_at, p_second.last_exchange_sync_at);
  return p_row;
end $$;
comment on function bot_runtime.position_with(
  bot_runtime.bot_positions, bot_runtime.bot_positions, bot_runtime.bot_positions) is
  'A position with what is known besides side, entry and quantity: the first one''s word, else the second one''s.';

-- The order of facts is (seq, open after closed, position id): a fill that reverses a position closes one and opens the
-- next in one event. Side, entry and layers are the word of the newest fact that tells the position open, all together;
-- so the same comes out whichever fact arrives first.
--
-- Not so what position_with takes over (marks, profits, exchange and its payload, order ids), which facts seldom tell:
-- the newest fact's word stands if it has one; where it is silent, the order of arrival decides which of the older ones
-- is kept. Those columns come out the same only if every fact tells them, or all that tell them agree.
create or replace function bot_runtime.join_position(
  p_row bot_runtime.bot_positions, p_fact bot_runtime.bot_positions) returns bot_runtime.bot_positions
language plpgsql immutable set search_path = '' as $$
declare
  v_newer constant boolean :=
    (p_fact.seq, p_fact.status = 'open', p_fact.position_id collate "C")
    > (coalesce(p_row.seq, -1), p_row.status = 'open', p_row.position_id collate "C");
  v_age   integer;
begin
  if p_fact.position_id <> p_row.position_id then
    return case when v_newer then p_fact else p_row end;
  elsif v_newer then
    p_row := bot_runtime.position_with(p_row, p_fact, p_row);
    p_row.seq := p_fact.seq;
    p_row.status := p_fact.status;
    p_row.qty := coalesce(p_fact.qty, p_row.qty);
  else
    p_row := bot_runtime.position_with(p_row, p_row, p_fact);
  end if;
  p_row.epoch := greatest(p_row.epoch, p_fact.epoch);
  v_age := case
    when p_fact.open_seq is null then -1
    when p_row.open_seq is null then 1
    else pg_catalog.btrecordcmp((p_fact.open_seq, coalesce(p_fact.revision, 0)),
                                (p_row.open_seq, coalesce(p_row.revision, 0))) end;
  if v_age > 0 then
    p_row.position_side := p_fact.position_side;
    p_row.entry_price := p_fact.entry_price;
    p_row.opened_at := p_fact.opened_at;
    p_row.bar_open := p_fact.bar_open;
    p_row.layers := p_fact.layers;
    p_row.revision := p_fact.revision;
    p_row.best_price := p_fact.best_price;
    p_row.open_seq := p_fact.open_seq;
    p_row.qty := case when p_row.status = 'open' then p_fact.qty else p_row.qty end;
  elsif v_age = 0 then
    -- Two processes that watched the same position need not have seen the same best price.
    p_row.best_price := case when p_row.position_side = 'short' then least(p_row.best_price, p_fact.best_price)
                             else greatest(p_row.best_price, p_fact.best_price) end;
  end if;
  return p_row;
end $$;
comment on function bot_runtime.join_position(bot_runtime.bot_positions, bot_runtime.bot_positions) is
  'What is known of a position after one more fact, the same whatever their order: which position it is, status, '
  'quantity, side, entry, layers, revision, best price, times and seq. In the rest the order shows where facts differ '
  'and the newest is silent.';

create or replace function bot_runtime.snapshot_position(
  p_row bot_runtime.bot_positions, p_given bot_runtime.bot_positions) returns bot_runtime.bot_positions
language plpgsql immutable set search_path = '' as $$
begin
  p_row := bot_runtime.position_with(p_row, p_given, p_row);
  p_row.status := coalesce(p_given.status, p_row.status);
  p_row.qty := coalesce(p_given.qty, p_row.qty);
  p_row.position_side := coalesce(p_given.position_side, p_row.position_side);
  p_row.entry_price := coalesce(p_given.entry_price, p_row.entry_price);
  p_row.opened_at := coalesce(p_given.opened_at, p_row.opened_at);
  p_row.bar_open := coalesce(p_given.bar_open, p_row.bar_open);
  p_row.layers := coalesce(p_given.layers, p_row.layers);
  p_row.revision := coalesce(p_given.revision, p_row.revision);
  p_row.best_price := coalesce(p_given.best_price, p_row.best_price);
  p_row.epoch := coalesce(p_given.epoch, p_row.epoch);
  return p_row;
end $$;
comment on function bot_runtime.snapshot_position(bot_runtime.bot_positions, bot_runtime.bot_positions) is
  'A position after its present owner looked at it: what is given replaces what stands.';

create or replace function bot_runtime.apply_position(p_caller bot_runtime.caller, p_args jsonb)
returns bot_runtime.bot_positions language plpgsql set search_path = '' as $$
declare
  v_given bot_runtime.bot_positions := bot_runtime.read_position(p_args -> 'p_payload');
  v_row   bot_runtime.bot_positions;
  v_next  bot_runtime.bot_positions;
begin
  v_given.bot_id := p_caller.bot_id;
  v_given.epoch := coalesce(p_caller.epoch, p_caller.current_epoch);
  if v_given.status = 'closed' and v_given.position_id is null then
    perform bot_runtime.refuse('PT422', 'position_identity_missing', 'p_payload.position_id: missing');
  end if;
  select * into v_row from bot_runtime.bot_positions
   where bot_id = p_caller.bot_id and position_id = v_given.position_id;
  if found then
    if v_given.symbol <> v_row.symbol or v_given.strategy <> v_row.strategy then
      perform bot_runtime.invalid('p_payload', case when v_given.symbol <> v_row.symbol then 'symbol'
                                                    else 'strategy' end, 'another position has this position_id');
    end if;
    v_given.symbol := v_row.symbol;
    v_given.strategy := v_row.strategy;
  elsif v_given.symbol is null then
    perform bot_runtime.refuse('PT422', case when v_given.status = 'closed' then 'position_identity_missing'
                                             else 'payload_invalid' end, 'p_payload.symbol: missing');
  else
    if v_given.strategy is null then
      select s.name into v_given.strategy from bot_runtime.bots b
        join bot_runtime.strategies s on s.id = b.strategy_id where b.id = p_caller.bot_id;
      v_given.strategy := coalesce(v_given.strategy, 'default');
    end if;
    select * into v_row from bot_runtime.bot_positions
     where bot_id = p_caller.bot_id and symbol = v_given.symbol and strategy = v_given.strategy;
  end if;
  if v_given.seq is not null then
    perform bot_runtime.check_position_fact(v_given);
    v_given.open_seq := case when v_given.status = 'open' then v_given.seq end;
    v_next := case when v_row.bot_id is null then v_given else bot_runtime.join_position(v_row, v_given) end;
  else
    v_next := bot_runtime.next_snapshot(v_row, v_given);
  end if;
  if v_next is not distinct from v_row then
    return v_row;
  end if;
  return bot_runtime.write_position(v_next);
end $$;
comment on function bot_runtime.apply_position(bot_runtime.caller, jsonb) is
  'The body of upsert_position, for the function itself, the outbox and retried dead letters.';

create or replace function bot_runtime.check_position_fact(p_fact bot_runtime.bot_positions) returns void
language plpgsql stable set search_path = '' as $$
begin
  if p_fact.status is null then
    perform bot_runtime.invalid('p_payload', 'status', 'missing');
  elsif p_fact.position_id is null then
    perform bot_runtime.invalid('p_payload', 'position_id', 'missing');
  elsif p_fact.status = 'open' and p_fact.qty is null then
    perform bot_runtime.invalid('p_payload', 'qty', 'missing');
  end if;
end $$;
comment on function bot_runtime.check_position_fact(bot_runtime.bot_positions) is
  'Refuses a fact that does not say which position it is about and how that stands.';

create or replace function bot_runtime.next_snapshot(
  p_row bot_runtime.bot_positions, p_given bot_runtime.bot_positions) returns bot_runtime.bot_positions
language plpgsql volatile set search_path = '' as $$
begin
  if p_row.position_id = p_given.position_id then
    if p_row.status = 'closed' and p_given.status = 'open' then
      perform bot_runtime.invalid('p_payload', 'status', 'the position is closed, a new one has a new position_id');
    end if;
    return bot_runtime.snapshot_position(p_row, p_given);
  elsif p_row.status = 'open' then
    perform bot_runtime.refuse('PT422', 'position_already_open', 'p_payload.position_id: ' || p_row.position_id
                               || ' is open for this symbol and strategy');
  end if;
  p_given.status := coalesce(p_given.status, 'open');
  if p_given.status = 'open' and p_given.qty is null then
    perform bot_runtime.invalid('p_payload', 'qty', 'missing');
  end if;
  p_given.position_id := coalesce(p_given.position_id, gen_random_uuid()::text);
  p_given.opened_at := coalesce(p_given.opened_at, case when p_given.status = 'open' then clock_timestamp() end);
  -- What closed the former position still outranks what happened before it.
  p_given.seq := p_row.seq;
  return p_given;
end $$;
comment on function bot_runtime.next_snapshot(bot_runtime.bot_positions, bot_runtime.bot_positions) is
  'The row after a snapshot: the standing one changed, or a new position in the place of a closed one.';

-- ---------------------------------------------------------------------------------------------------- public functions
create or replace function bot_runtime.find_position(p_bot_id uuid, p_status text, p_symbol text) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_row bot_runtime.bot_positions;
begin
  perform bot_runtime.arg_text(p_status, 'p_status', '^(open|closed)$', 16);
  if not bot_runtime.is_symbol(p_symbol) then
    perform bot_runtime.invalid('p_symbol', null, 'malformed');
  end if;
  select * into v_row from bot_runtime.bot_positions
   where bot_id = p_bot_id and status = p_status and (p_symbol is null or symbol = p_symbol)
   order by opened_at desc nulls last, updated_at desc, symbol, strategy limit 1;
  return case when found then bot_runtime.position_json(v_row) end;
end $$;
comment on function bot_runtime.find_position(uuid, text, text) is 'The latest opened position of a status, or null.';

create or replace function public.bot_runtime_get_position(
  p_bot_id uuid, p_status text default 'open', p_symbol text default null) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  return bot_runtime.find_position(p_bot_id, p_status, p_symbol);
end $$;
comment on function public.bot_runtime_get_position(uuid, text, text) is
$c$Reads the bot's position; of several, the one opened last.
Result: the row of bot_positions with money as text, or null when there is none.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid (p_status, p_symbol).
Argument p_status: open or closed.
Argument p_symbol: only this symbol's; null for any.$c$;

create or replace function public.get_bot_position(p_bot_id uuid, p_status text default 'open') returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_row jsonb;
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  v_row := bot_runtime.find_position(p_bot_id, p_status, null);
  if v_row is null and p_status = 'open' then
    perform bot_runtime.refuse('PT404', 'position_not_found', 'p_status: no open position');
  end if;
  return v_row;
end $$;
comment on function public.get_bot_position(uuid, text) is
$c$Reads the bot's position for a caller that expects an open one to be there.
Result: the row of bot_positions with money as text; null when p_status is closed and there is none.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT404 position_not_found (open, and there is none); PT422
payload_invalid (p_status).
Argument p_status: open or closed.$c$;

create or replace function public.bot_runtime_upsert_position(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller;
begin
  if p_payload ->> 'seq' is not null then
    v_caller := bot_runtime.runtime_fact(p_bot_id);
  else
    v_caller := bot_runtime.runtime_claim_check(p_bot_id, true);
  end if;
  return bot_runtime.position_json(
    bot_runtime.apply_position(v_caller, jsonb_build_object('p_payload', p_payload)));
end $$;
comment on function public.bot_runtime_upsert_position(uuid, jsonb) is
$c$Writes how a position stands, as a fact (with seq) or as the present owner's snapshot (without).
Result: the row of bot_positions as it stands afterwards, with money as text.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (a snapshot of a caller that does not hold
the lease; a fact of an epoch that never was); PT422 payload_invalid, position_identity_missing (closing without
position_id or symbol), position_already_open (a snapshot of another position while one is open).
Argument p_payload: position_id, status (open, closed), symbol, strategy (the bot's own by default), position_side
(long, short), qty, entry_price, mark_price, unrealized_pnl, realized_pnl, best_price (money as text), exchange,
margin_mode, exchange_payload (object), entry_exchange_order_id, entry_client_order_id, exit_exchange_order_id,
exit_client_order_id, opened_at, bar_open, last_exchange_sync_at (ISO times with zone), layers, revision, and seq, the
account event that made the position so. A fact needs position_id, status and, when open, qty; any epoch may tell it,
and facts may come twice and in any order: one below the standing seq only fills in what is not known of its own
position. What facts seldom tell (mark_price, unrealized_pnl, realized_pnl, exchange, margin_mode, exchange_payload and
the order ids) is the newest fact's word; where that is silent and older ones differ, the order of arrival decides, so
tell it in every fact or in snapshots. A snapshot with the position_id of the standing row changes the keys it holds;
without one it opens a new position under a new id.$c$;

create or replace function public.upsert_bot_position(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller;
begin
  if p_payload ->> 'seq' is not null then
    v_caller := bot_runtime.runtime_fact(p_bot_id);
  else
    v_caller := bot_runtime.runtime_claim_check(p_bot_id, false);
  end if;
  return bot_runtime.position_json(
    bot_runtime.apply_position(v_caller, jsonb_build_object('p_payload', p_payload)));
end $$;
comment on function public.upsert_bot_position(uuid, jsonb) is
$c$Writes how a position stands, as bot_runtime_upsert_position does, also for a caller that takes part in no lease.
Result: the row of bot_positions as it stands afterwards, with money as text.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (a lease is held, and not by the caller);
PT422 payload_invalid, position_identity_missing, position_already_open.
Argument p_payload: the keys of bot_runtime_upsert_position; a new open position without position_id gets one.$c$;

revoke all on function public.bot_runtime_get_position(uuid, text, text) from public, anon, authenticated;
revoke all on function public.get_bot_position(uuid, text) from public, anon, authenticated;
revoke all on function public.bot_runtime_upsert_position(uuid, jsonb) from public, anon, authenticated;
revoke all on function public.upsert_bot_position(uuid, jsonb) from public, anon, authenticated;
grant execute on function public.bot_runtime_get_position(uuid, text, text) to service_role;
grant execute on function public.get_bot_position(uuid, text) to service_role;
grant execute on function public.bot_runtime_upsert_position(uuid, jsonb) to service_role;
grant execute on function public.upsert_bot_position(uuid, jsonb) to service_role;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
