-- What a runtime asks and tells all the time: its context, its heartbeat, and what its operator wants of it.

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
        'flatten_version', b.flatten_version),
      'execution_config', b.execution_config,
      'subscription_status', coalesce(s.status, 'inactive'))
      from bot_runtime.bots b left join bot_runtime.subscriptions s on s.bot_id = b.id
     where b.id = p_bot_id);
end $$;

create or replace function bot_runtime.markets_of(p_exchange text, p_symbols text[]) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
             'symbol', symbol, 'base', base, 'quote', quote, 'active', active, 'details', details,
             'price_step', bot_runtime.as_text(price_step), 'amount_step', bot_runtime.as_text(amount_step),
             'amount_min', bot_runtime.as_text(amount_min), 'notional_min', bot_runtime.as_text(notional_min))
             order by symbol), '[]')
      from bot_runtime.supported_markets where exchange = p_exchange and symbol = any (p_symbols));
end $$;

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
      'exchange_options', v_bot.exchange_options, 'execution_config', v_bot.execution_config),
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

create or replace function bot_runtime.state_of(p_bot_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  return (
    select jsonb_build_object(
      'bot_id', bot_id, 'heartbeat_at', bot_runtime.utc(heartbeat_at), 'boot_id', boot_id, 'epoch', epoch,
      'status', status, 'event', event, 'exchange_sync_status', exchange_sync_status,
      'equity', bot_runtime.as_text(equity), 'cash', bot_runtime.as_text(cash),
      'mark_price', bot_runtime.as_text(mark_price), 'unrealized_pnl', bot_runtime.as_text(unrealized_pnl),
      'in_position', in_position, 'open_positions', open_positions, 'position_id', position_id,
      'position_symbol', position_symbol, 'position_side', position_side,
      'position_qty', bot_runtime.as_text(position_qty), 'position_entry', bot_runtime.as_text(position_entry),
      'payload', payload, 'updated_at', bot_runtime.utc(updated_at))
      from bot_runtime.bot_state where bot_id = p_bot_id);
end $$;

-- -------------------------------------------------------------------------------------------------------- reading
create or replace function public.bot_runtime_get_context(p_bot_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  return bot_runtime.context_of(p_bot_id);
end $$;
comment on function public.bot_runtime_get_context(uuid) is
$c$Tells a runtime all that it needs to start: the bot, its strategy, its credentials (sealed) and its controls.
Result: {bot: {id, name, user_id, mode, exchange, symbols, polling_tier, active, exchange_options, execution_config},
symbols, api_keys: {ciphertext} or null, exchange: {id, name, active, details} or null, markets: [{symbol, base, quote,
active, details, price_step, amount_step, amount_min, notional_min}], subscription: {status} (inactive without a row),
strategy: {id, name, definition, fingerprint} or null, profile: {overrides} or null, controls (as
bot_runtime_refresh_controls), settings, settings_version, runtime: {provider, region, machine_id, epoch,
token_expires_at, token_ttl_s}}.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid.$c$;

create or replace function public.get_bot_context(p_bot_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  if not (select active from bot_runtime.bots where id = p_bot_id) then
    perform bot_runtime.refuse('PT403', 'bot_inactive', 'p_bot_id');
  end if;
  return bot_runtime.context_of(p_bot_id);
end $$;
comment on function public.get_bot_context(uuid) is
$c$Tells the runtime of an active bot all that it needs to start.
Result: as bot_runtime_get_context.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot, bot_inactive; PT422 payload_invalid.$c$;

create or replace function public.bot_runtime_refresh_controls(p_bot_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  return bot_runtime.controls_of(p_bot_id);
end $$;
comment on function public.bot_runtime_refresh_controls(uuid) is
$c$Tells what the operator wants of the bot now.
Result: {version, acknowledged, control_config: {paused, killed, observe_only, flatten_version}, execution_config,
subscription_status}; flatten_version is null once that version is acknowledged.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid.$c$;

create or replace function public.refresh_controls(p_bot_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform bot_runtime.runtime_auth(p_bot_id);
  return bot_runtime.controls_of(p_bot_id) - 'acknowledged';
end $$;
comment on function public.refresh_controls(uuid) is
$c$Tells what the operator wants of the bot now, in one record.
Result: {control_config, execution_config, subscription_status, version}, as bot_runtime_refresh_controls.
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
  if v_version > v_bot.controls_acknowledged or v_version >= v_bot.flatten_version then
    update bot_runtime.bots
       set controls_acknowledged = greatest(controls_acknowledged, v_version),
           flatten_version = nullif(flatten_version, least(flatten_version, v_version)),
           updated_at = clock_timestamp()
     where id = p_bot_id returning * into v_bot;
    insert into bot_runtime.bot_events (bot_id, kind, level, payload, epoch)
    values (p_bot_id, 'controls_acknowledged', 'info', jsonb_build_object('version', v_version), v_caller.epoch);
  end if;
  return jsonb_build_object('acknowledged', v_bot.controls_acknowledged);
end $$;
comment on function public.bot_runtime_acknowledge(uuid, text) is
$c$Says that the controls of a version are carried out; a flatten of that version or an earlier one is then over.
Argument p_version: 1 to the present version; an earlier one than acknowledged changes nothing.
Result: {acknowledged}, the highest version so far.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch; PT422 payload_invalid.$c$;

-- ------------------------------------------------------------------------------------------------------- heartbeats
-- One query for all keys: a call per key would cost more than all the rest of a heartbeat.
create or replace function bot_runtime.check_heartbeat(p jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_key text;
  v_why text;
begin
  perform bot_runtime.check_object(p, 'p_payload');
  select f.key, f.why into v_key, v_why
    from (select key, value, jsonb_typeof(value) as kind, value #>> '{}' as said from jsonb_each(p)) e,
         lateral (select e.key, case
           when e.key in ('heartbeat_at', 'last_bar_at', 'marked_at') then null  -- looked at below
           when e.key in ('equity', 'cash', 'mark_price', 'position_qty', 'position_entry', 'unrealized_pnl',
                          'unrealised_pnl', 'realized_pnl', 'realised_pnl', 'drawdown', 'day_pnl') then
             case when e.kind <> 'string' or e.said !~ '^-?[0-9]{1,40}(\.[0-9]{1,100})?$'
                  then 'not a decimal as text' end
           when e.key in ('boot_id', 'run_id', 'status', 'strategy', 'symbol', 'version', 'polling_tier') then
             case when e.kind <> 'string' or e.said !~ '^[^[:cntrl:]]{1,128}$' then 'not 1 to 128 characters' end
           when e.key in ('heartbeat_seq', 'controls_version', 'orders_open') then
             case when e.kind not in ('number', 'string') or e.said !~ '^[0-9]{1,18}$' then 'not a whole number' end
           when e.key in ('uptime_s', 'poll_effective_s') then
             case when e.kind not in ('number', 'string') or e.said !~ '^[0-9]{1,12}(\.[0-9]{1,100})?$'
                  then 'not a number of seconds' end
           when e.key = 'event' then
             case when e.kind <> 'string' or char_length(e.said) not between 1 and 500
                  then 'not 1 to 500 characters' end
           when e.key = 'message' then
             case when e.kind <> 'string' or char_length(e.said) > 2000 then 'not text of at most 2000 characters' end
           when e.key = 'level' then
             case when e.said not in ('debug', 'info', 'warning', 'error', 'critical') then 'no such level' end
           when e.key = 'exchange_sync_status' then
             case when e.said not in ('ok', 'missing', 'mismatch', 'unknown') then 'no such status' end
           when e.key = 'position_side' then
             case when e.said not in ('long', 'short', 'flat') then 'no such side' end
           when e.key = 'in_position' then case when e.kind <> 'boolean' then 'not true or false' end
           when e.key = 'gate' then
             case when e.kind <> 'array' or jsonb_path_exists(e.value, 'strict $[*] ? (@.type() != "string")')
                  then 'not an array of text' end
           else 'unknown' end as why) f
   where f.why is not null and (e.kind <> 'null' or f.why = 'unknown')
   limit 1;
  if found then
    perform bot_runtime.invalid('p_payload', left(v_key, 64), v_why);
  end if;
  perform bot_runtime.opt_time(p, 'p_payload', 'heartbeat_at');
  perform bot_runtime.opt_time(p, 'p_payload', 'last_bar_at');
  perform bot_runtime.opt_time(p, 'p_payload', 'marked_at');
end $$;

-- A heartbeat whose reply was lost is sent again: its event is known by boot and number.
create or replace function bot_runtime.heartbeat_event(
  p_caller bot_runtime.caller, p_boot_id text, p_payload jsonb, p_at timestamptz) returns void
language plpgsql set search_path = '' as $$
declare
  v_key text := 'heartbeat:' || p_boot_id || ':' || (p_payload ->> 'heartbeat_seq') || ':'
                || md5(p_payload ->> 'event');
begin
  if v_key is not null then
    insert into bot_runtime.event_keys (bot_id, key, digest)
    values (p_caller.bot_id, v_key, sha256(convert_to(p_payload ->> 'event', 'UTF8')))
    on conflict do nothing;
    if not found then
      return;
    end if;
  end if;
  insert into bot_runtime.bot_events (bot_id, kind, level, payload, key, epoch, at)
  values (p_caller.bot_id, 'heartbeat', coalesce(p_payload ->> 'level', 'info'), p_payload, v_key, p_caller.epoch,
          p_at);
end $$;

-- One that was overtaken, or is sent again, is no news of how the bot stands: only an event that it brings is kept.
create or replace function bot_runtime.apply_heartbeat(p_caller bot_runtime.caller, p_payload jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_at      timestamptz := coalesce(bot_runtime.opt_time(p_payload, 'p_payload', 'heartbeat_at'), v_now);
  v_boot_id text := coalesce(p_caller.boot_id, p_payload ->> 'boot_id');
  v_equity  numeric := bot_runtime.opt_money(p_payload, 'p_payload', 'equity');
  v_pnl     numeric := coalesce(p_payload ->> 'unrealized_pnl', p_payload ->> 'unrealised_pnl')::numeric;
begin
  insert into bot_runtime.bot_state as s (bot_id, heartbeat_at, boot_id, epoch, status, event, exchange_sync_status,
                                          equity, cash, mark_price, unrealized_pnl, payload, updated_at)
  values (p_caller.bot_id, v_at, v_boot_id, p_caller.epoch, p_payload ->> 'status', p_payload ->> 'event',
          p_payload ->> 'exchange_sync_status', v_equity, (p_payload ->> 'cash')::numeric,
          (p_payload ->> 'mark_price')::numeric, v_pnl, p_payload, v_now)
  on conflict (bot_id) do update
     set heartbeat_at = excluded.heartbeat_at, boot_id = excluded.boot_id, epoch = excluded.epoch,
         status = coalesce(excluded.status, s.status), event = coalesce(excluded.event, s.event),
         exchange_sync_status = coalesce(excluded.exchange_sync_status, s.exchange_sync_status),
         equity = coalesce(excluded.equity, s.equity), cash = coalesce(excluded.cash, s.cash),
         mark_price = coalesce(excluded.mark_price, s.mark_price),
         unrealized_pnl = coalesce(excluded.unrealized_pnl, s.unrealized_pnl),
         payload = excluded.payload, updated_at = excluded.updated_at
   where (s.boot_id = excluded.boot_id and (s.payload ->> 'heartbeat_seq')::bigint
            >= (excluded.payload ->> 'heartbeat_seq')::bigint) is not true;
  if found then
    insert into bot_runtime.run_metrics as m (bot_id, boot_id, heartbeats, first_at, last_at, equity_last, equity_min,
                                              equity_max)
    values (p_caller.bot_id, coalesce(v_boot_id, 'unnamed'), 1, v_now, v_now, v_equity, v_equity, v_equity)
    on conflict (bot_id, boot_id) do update
       set heartbeats = m.heartbeats + 1, last_at = excluded.last_at,
           equity_last = coalesce(excluded.equity_last, m.equity_last),
           equity_min = least(m.equity_min, excluded.equity_min),
           equity_max = greatest(m.equity_max, excluded.equity_max);
  end if;
  if p_payload ->> 'event' is not null then
    perform bot_runtime.heartbeat_event(p_caller, v_boot_id, p_payload, v_at);
  end if;
end $$;

create or replace function bot_runtime.renew_lease(p_bot_id uuid) returns bot_runtime.bot_leases
language plpgsql set search_path = '' as $$
declare
  v_lease bot_runtime.bot_leases;
begin
  update bot_runtime.bot_leases
     set renewals = renewals + 1, expires_at = clock_timestamp() + make_interval(secs => lease_s)
   where bot_id = p_bot_id returning * into v_lease;
  return v_lease;
end $$;

create or replace function public.bot_runtime_heartbeat(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller           bot_runtime.caller := bot_runtime.runtime_claim_check(p_bot_id, true, true);
  v_lease            bot_runtime.bot_leases;
  v_controls_version bigint;
  v_token_expires_at timestamptz;
begin
  perform bot_runtime.check_heartbeat(p_payload);
  v_lease := bot_runtime.renew_lease(p_bot_id);
  perform bot_runtime.apply_heartbeat(v_caller, p_payload);
  select b.controls_version, r.token_expires_at into v_controls_version, v_token_expires_at
    from bot_runtime.bots b join bot_runtime.bot_runtime r on r.bot_id = b.id where b.id = p_bot_id;
  return jsonb_build_object(
    'epoch', v_lease.epoch, 'renewals', v_lease.renewals, 'expires_in_s', bot_runtime.as_text(v_lease.lease_s),
    'controls_version', v_controls_version, 'token_expires_at', bot_runtime.utc(v_token_expires_at));
end $$;
comment on function public.bot_runtime_heartbeat(uuid, jsonb) is
$c$Renews the lease and says how the bot stands, in one transaction.
Argument p_payload: any of heartbeat_at, event (at most 500 characters; only with it a row is added to the log), level,
message, status, boot_id, run_id, heartbeat_seq, exchange_sync_status (ok, missing, mismatch, unknown), equity, cash,
mark_price, in_position, position_side, position_qty, position_entry, unrealized_pnl (or unrealised_pnl), realized_pnl
(or realised_pnl), drawdown, day_pnl, marked_at, gate (array of text), strategy, symbol, version, polling_tier,
uptime_s, poll_effective_s, controls_version, orders_open, last_bar_at.
Money is decimal text, times are ISO 8601 with a zone. With a heartbeat_seq not above the last one of the same boot the
lease is renewed and an event kept, and the rest changes nothing.
Result: {epoch, renewals, expires_in_s, controls_version, token_expires_at}.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (the caller does not hold the lease);
PT422 payload_invalid.$c$;

create or replace function public.tick_heartbeat(p_bot_id uuid, p_payload jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_claim_check(p_bot_id, false, true);
begin
  perform bot_runtime.check_heartbeat(p_payload);
  -- A caller without a boot passes while nobody holds a live lease, and renews none.
  if v_caller.boot_id is not null then
    perform bot_runtime.renew_lease(p_bot_id);
  end if;
  perform bot_runtime.apply_heartbeat(v_caller, p_payload);
  return bot_runtime.state_of(p_bot_id);
end $$;
comment on function public.tick_heartbeat(uuid, jsonb) is
$c$Says how the bot stands, in one transaction; renews the lease of a caller that holds it.
Argument p_payload: as of bot_runtime_heartbeat.
Result: the bot's row of bot_state, money as text.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (the caller does not hold the lease, or
names neither boot nor epoch while another process holds it); PT422 payload_invalid.$c$;

do $$
declare
  v_function text;
begin
  foreach v_function in array array[
    'bot_runtime_get_context(uuid)', 'get_bot_context(uuid)', 'bot_runtime_refresh_controls(uuid)',
    'refresh_controls(uuid)', 'bot_runtime_acknowledge(uuid, text)', 'bot_runtime_heartbeat(uuid, jsonb)',
    'tick_heartbeat(uuid, jsonb)'] loop
    execute format('revoke all on function public.%s from public, anon, authenticated', v_function);
    execute format('grant execute on function public.%s to service_role', v_function);
  end loop;
end $$;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
