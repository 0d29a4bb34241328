-- The outbox in one round trip.
--
-- A runtime writes what happens into its local store first and sends it on from there, in order, in batches. A reply
-- may be lost and the batch sent again, so each store has a stream that knows how far it came. An entry that can never
-- be applied must neither block the ones behind it nor vanish: it becomes a dead letter.

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
comment on function bot_runtime.apply(bot_runtime.caller, text, jsonb, boolean) is
  'Applies one fact by the name and arguments of its public function; for the outbox, retried dead letters and manual '
  'trades. The caller is authenticated already. The result is that function''s, brief: null instead of a row.';

-- An entry is measured as the runtime writes it, without the blanks that jsonb prints. The cheap measure of the whole
-- comes first, and is an upper bound.
create or replace function bot_runtime.check_batch(p_first_seq bigint, p_entries jsonb) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_max   constant integer := 256000;
  v_last  bigint;
  v_seq   bigint;
  v_entry jsonb;
  v_bytes integer;
begin
  if p_entries is null or jsonb_typeof(p_entries) <> 'array' then
    perform bot_runtime.invalid('p_entries', null, 'not an array');
  elsif jsonb_array_length(p_entries) > 200 then
    perform bot_runtime.refuse('PT422', 'batch_too_large',
      format('p_entries: %s entries, at most 200', jsonb_array_length(p_entries)));
  end if;
  for v_entry in select value from jsonb_array_elements(p_entries) loop
    if jsonb_typeof(v_entry) <> 'object' or jsonb_typeof(v_entry -> 'seq') is distinct from 'number'
       or v_entry ->> 'seq' !~ '^[0-9]{1,18}$' then
      perform bot_runtime.invalid('p_entries', null, 'an entry is an object with a whole number seq');
    end if;
    v_seq := (v_entry ->> 'seq')::bigint;
    if v_seq <= v_last or v_last is null and v_seq <> p_first_seq then
      perform bot_runtime.invalid('p_entries', null, 'entries must rise from p_first_seq');
    end if;
    v_last := v_seq;
  end loop;
  if jsonb_array_length(p_entries) > 1 and octet_length(p_entries::text) > v_max then
    select sum(octet_length(value ->> 'fn') + octet_length(value ->> 'key')
               + bot_runtime.compact_bytes(value -> 'args')) into v_bytes from jsonb_array_elements(p_entries);
    if v_bytes > v_max then
      perform bot_runtime.refuse('PT422', 'batch_too_large',
        format('p_entries: %s bytes, at most %s', v_bytes, v_max));
    end if;
  end if;
end $$;
comment on function bot_runtime.check_batch(bigint, jsonb) is
  'Refuses a batch as a whole: out of order, or above 200 entries or 256,000 bytes (unless it is a single entry).';

create or replace function bot_runtime.compact_bytes(p_value jsonb) returns integer
language plpgsql immutable set search_path = '' as $$
begin
  return octet_length(replace(replace(p_value::text, '": ', '":'), ', "', ',"'));
end $$;
comment on function bot_runtime.compact_bytes(jsonb) is 'Bytes of a JSON value without blanks between its parts.';

create or replace function bot_runtime.keep_dead_letter(
  p_bot_id uuid, p_store_id text, p_entry jsonb, p_reason text) returns void
language plpgsql set search_path = '' as $$
declare
  v_text  text := p_entry ->> 'args';
  v_bytes integer := octet_length(v_text);
begin
  insert into bot_runtime.dead_letters (bot_id, store_id, seq, fn, key, args, reason)
  values (p_bot_id, p_store_id, (p_entry ->> 'seq')::bigint, left(p_entry ->> 'fn', 128), left(p_entry ->> 'key', 512),
    case when v_bytes <= 65536 then p_entry -> 'args'
         when v_bytes is not null then jsonb_build_object('head', left(v_text, 4096), 'bytes', v_bytes) end,
    left(p_reason, 1024));
end $$;
comment on function bot_runtime.keep_dead_letter(uuid, text, jsonb, text) is
  'Sets an entry aside: whole up to 64 KiB, beyond only how it begins and how long it is.';

create or replace function public.bot_runtime_sync(
  p_bot_id uuid, p_store_id text, p_first_seq text, p_entries jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller  bot_runtime.caller := bot_runtime.runtime_fact(p_bot_id);
  v_store   text := bot_runtime.arg_text(p_store_id, 'p_store_id', '^[A-Za-z0-9][A-Za-z0-9._:/|-]*$', 128);
  v_first   bigint := bot_runtime.arg_int(p_first_seq, 'p_first_seq', 1, 999999999999999999);
  v_last    bigint;
  v_entries jsonb[];
  v_count   integer;
  v_from    integer := 1;
  v_to      integer;
  v_at      integer;
  v_state   text;
  v_word    text;
  v_detail  text;
  v_reason  text;
  v_large   boolean;
begin
  perform bot_runtime.check_batch(v_first, p_entries);
  -- Of several entries none is too large by itself: check_batch has measured them together.
  v_large := jsonb_array_length(p_entries) = 1 and bot_runtime.compact_bytes(p_entries #> '{0,args}') > 256000;
  insert into bot_runtime.sync_streams (bot_id, store_id) values (p_bot_id, v_store) on conflict do nothing;
  select last_seq into v_last from bot_runtime.sync_streams
   where bot_id = p_bot_id and store_id = v_store for update;
  select array_agg(value order by place) into v_entries
    from jsonb_array_elements(p_entries) with ordinality as _(value, place)
   where (value ->> 'seq')::bigint > v_last;
  v_count := coalesce(cardinality(v_entries), 0);
  v_to := v_count;
  -- One subtransaction takes all entries up to the first that is refused. What came before that one is undone with it,
  -- is known to be sound, and is applied again by itself. So each entry runs twice at most, and a batch with nothing
  -- wrong in it costs one subtransaction instead of two hundred.
  while v_from <= v_count loop
    begin
      for v_i in v_from .. v_to loop
        v_at := v_i;
        if v_large then
          perform bot_runtime.refuse('PT422', 'entry_too_large', 'args: more than 256000 bytes');
        end if;
        perform bot_runtime.apply(v_caller, v_entries[v_i] ->> 'fn', v_entries[v_i] -> 'args', true);
      end loop;
      v_from := v_to + 1;
    exception when others then
      get stacked diagnostics v_state = returned_sqlstate, v_word = message_text, v_detail = pg_exception_detail;
      -- Bad data stays bad. Anything else (a deadlock, a full disk, a defect of ours) aborts the batch, to come again.
      if v_state !~ '^(PT4|22|23|54)' then
        raise;
      end if;
      v_reason := case when v_state ~ '^PT4' then concat_ws(': ', v_word, nullif(v_detail, ''))
                       else 'payload_invalid: ' || v_word end;
      v_to := v_at - 1;
      continue;
    end;
    if v_reason is not null then
      perform bot_runtime.keep_dead_letter(p_bot_id, v_store, v_entries[v_from], v_reason);
      v_reason := null;
      v_from := v_from + 1;
      v_to := v_count;
    end if;
  end loop;
  if v_count > 0 then
    v_last := (v_entries[v_count] ->> 'seq')::bigint;
    update bot_runtime.sync_streams set last_seq = v_last, updated_at = clock_timestamp()
     where bot_id = p_bot_id and store_id = v_store;
  end if;
  -- Refusals of what was skipped are told again: the reply that told them first may have been lost.
  return jsonb_build_object('last_seq', v_last, 'refused', (
    select coalesce(jsonb_agg(jsonb_build_object('seq', seq, 'reason', reason) order by seq), '[]')
      from bot_runtime.dead_letters
     where bot_id = p_bot_id and store_id = v_store
       and seq between v_first and (p_entries -> -1 ->> 'seq')::bigint));
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
bot_runtime_record_decision, bot_runtime_record_cycle, bot_runtime_write_event, bot_runtime_notify,
upsert_bot_health_evidence; args are that function's, without p_bot_id.$c$;

revoke all on function public.bot_runtime_sync(uuid, text, text, jsonb) from public, anon, authenticated;
grant execute on function public.bot_runtime_sync(uuid, text, text, jsonb) to service_role;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
