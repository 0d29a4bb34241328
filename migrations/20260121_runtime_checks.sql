-- What every function asks before it touches a row: whose token is this, who owns the bot, is the payload sound.
--
-- The functions in `public` are the security definers; these run inside them, with the owner's rights, and nobody else
-- can reach them, since no API role has USAGE on the schema. A refusal is an exception whose SQLSTATE PTxyz becomes the
-- HTTP status xyz, whose message is a stable word, and whose detail names the field. Fencing is PT409 and never 40001:
-- PostgREST would run a 40001 again by itself.

do $$
begin
  if to_regtype('bot_runtime.caller') is null then
    create type bot_runtime.caller as (
      bot_id        uuid,
      boot_id       text,    -- as the header says, null without one
      epoch         bigint,  -- as the header says, null without one
      current_epoch bigint,  -- as the lease says
      holder        text     -- boot id that the lease is held by, null when nobody holds it
    );
  end if;
  if to_regtype('bot_runtime.operator') is null then
    create type bot_runtime.operator as (id uuid, name text, role text);
  end if;
end $$;

create or replace function bot_runtime.refuse(
  p_code text, p_word text, p_detail text default null, p_hint text default null) returns void
language plpgsql set search_path = '' as $$
begin
  -- An option of RAISE may not be null.
  if p_detail is null then
    raise exception using errcode = p_code, message = p_word;
  elsif p_hint is null then
    raise exception using errcode = p_code, message = p_word, detail = p_detail;
  end if;
  raise exception using errcode = p_code, message = p_word, detail = p_detail, hint = p_hint;
end $$;

-- The setting is '' once a transaction that set it is over, and holds the service key and the tokens: never log it.
create or replace function bot_runtime.header(p_name text) returns text
language plpgsql stable set search_path = '' as $$
begin
  return nullif(nullif(current_setting('request.headers', true), '')::json ->> p_name, '');
end $$;

create or replace function bot_runtime.utc(p_at timestamptz) returns text
language plpgsql stable strict set search_path = '' as $$
begin
  return to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
end $$;

create or replace function bot_runtime.as_text(p_value numeric) returns text
language plpgsql immutable strict set search_path = '' as $$
begin
  return trim_scale(p_value)::text;
end $$;

-- ------------------------------------------------------------------------------------------------------------ tokens
create or replace function bot_runtime.token_hash(p_token text) returns bytea
language plpgsql immutable strict set search_path = '' as $$
begin
  return sha256(convert_to(p_token, 'UTF8'));
end $$;

-- A token that the runtime has announced becomes the present one when it is first used: only then is it certain that
-- the runtime has kept it. The lease row is locked first, as everywhere, and FOR UPDATE at once: a weaker lock that a
-- claim then raises could deadlock with another call that does the same.
create or replace function bot_runtime.promote_token(p_bot_id uuid, p_hash bytea) returns void
language plpgsql set search_path = '' as $$
begin
  perform 1 from bot_runtime.bot_leases where bot_id = p_bot_id for update;
  update bot_runtime.bot_runtime
     set former_token_hash  = runtime_token_hash,
         former_valid_until = least(token_expires_at, clock_timestamp() + interval '60 seconds'),
         runtime_token_hash = next_token_hash,
         token_expires_at   = next_expires_at,
         next_token_hash    = null,
         next_expires_at    = null,
         updated_at         = clock_timestamp()
   where bot_id = p_bot_id and next_token_hash = p_hash;
  if not found then
    -- Another first use has made it the present one during the wait, or a registration or revocation has ended it.
    perform 1 from bot_runtime.bot_runtime
     where bot_id = p_bot_id and runtime_token_hash = p_hash and revoked_at is null;
    if not found then
      perform bot_runtime.refuse('PT401', 'runtime_token_invalid');
    end if;
  end if;
end $$;

-- Hashes are compared by a unique index: timing tells nothing about a token, and one look-up serves any fleet.
-- Whoever locks the lease asks once more afterwards: what it waited for may have been the end of its token, and nobody
-- can end that while it holds the lock.
create or replace function bot_runtime.runtime_token(p_bot_id uuid) returns bot_runtime.caller
language plpgsql set search_path = '' as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_hash    bytea := sha256(convert_to(v_headers ->> 'x-runtime-token', 'UTF8'));
  v_now     timestamptz := clock_timestamp();
  v_epoch   text := nullif(v_headers ->> 'x-runtime-epoch', '');
  v_pending boolean := false;
  v_caller  bot_runtime.caller;
begin
  select bot_id into v_caller.bot_id from bot_runtime.bot_runtime
   where runtime_token_hash = v_hash and token_expires_at > v_now and revoked_at is null;
  if not found then
    select bot_id, true into v_caller.bot_id, v_pending from bot_runtime.bot_runtime
     where next_token_hash = v_hash and next_expires_at > v_now and revoked_at is null;
    if not found then
      -- Also reached by the second of two first uses at once: the first has made the token the present one meanwhile.
      select bot_id, false into v_caller.bot_id, v_pending from bot_runtime.bot_runtime
       where (former_token_hash = v_hash and former_valid_until > v_now
              or runtime_token_hash = v_hash and token_expires_at > v_now) and revoked_at is null;
    end if;
  end if;
  if v_caller.bot_id is null then
    perform bot_runtime.refuse('PT401', 'runtime_token_invalid');
  elsif p_bot_id is null then
    perform bot_runtime.refuse('PT422', 'payload_invalid', 'p_bot_id: missing');
  elsif v_caller.bot_id <> p_bot_id then
    perform bot_runtime.refuse('PT403', 'not_your_bot', 'p_bot_id');
  end if;
  v_caller.boot_id := nullif(v_headers ->> 'x-runtime-boot-id', '');
  if v_caller.boot_id !~ '^[A-Za-z0-9._-]{1,64}$' then
    perform bot_runtime.refuse('PT422', 'payload_invalid', 'x-runtime-boot-id: 1 to 64 of letters, digits, . _ -');
  end if;
  if v_epoch !~ '^[0-9]{1,18}$' then
    perform bot_runtime.refuse('PT422', 'payload_invalid', 'x-runtime-epoch: not a whole number');
  end if;
  v_caller.epoch := v_epoch::bigint;
  if v_pending then
    perform bot_runtime.promote_token(p_bot_id, v_hash);
  end if;
  return v_caller;
end $$;

-- ------------------------------------------------------------------------------------------------------ who may write
create or replace function bot_runtime.runtime_auth(p_bot_id uuid) returns bot_runtime.caller
language plpgsql set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_token(p_bot_id);
begin
  select epoch, boot_id into v_caller.current_epoch, v_caller.holder
    from bot_runtime.bot_leases where bot_id = p_bot_id;
  return v_caller;
end $$;
comment on function bot_runtime.runtime_auth(uuid) is
  'The caller by its runtime token, for calls that only read or write nothing that two owners could dispute.';

-- The bot's row lock makes the facts of one bot follow one another, so that two calls which touch the same orders and
-- positions in different orders can't deadlock. The lease is only key-shared: heartbeats pass, a claim waits.
create or replace function bot_runtime.runtime_fact(p_bot_id uuid) returns bot_runtime.caller
language plpgsql set search_path = '' as $$
declare
  v_caller bot_runtime.caller := bot_runtime.runtime_token(p_bot_id);
begin
  select epoch, boot_id into v_caller.current_epoch, v_caller.holder
    from bot_runtime.bot_leases where bot_id = p_bot_id for key share;
  perform bot_runtime.runtime_token(p_bot_id);
  if v_caller.epoch > v_caller.current_epoch then
    perform bot_runtime.refuse('PT409', 'stale_epoch', format('epoch %s is not known', v_caller.epoch));
  end if;
  perform 1 from bot_runtime.bots where id = p_bot_id for no key update;
  return v_caller;
end $$;
comment on function bot_runtime.runtime_fact(uuid) is
  'The caller of a fact: any epoch that ever was may still deliver what happened under it.';

create or replace function bot_runtime.runtime_claim_check(
  p_bot_id uuid, p_strict boolean default true, p_renew boolean default false) returns bot_runtime.caller
language plpgsql set search_path = '' as $$
declare
  v_caller     bot_runtime.caller := bot_runtime.runtime_token(p_bot_id);
  v_expires_at timestamptz;
begin
  if p_renew then
    -- The heartbeat writes the lease row and leaves the bot's alone, so that it never waits for a batch of facts.
    select epoch, boot_id, expires_at into v_caller.current_epoch, v_caller.holder, v_expires_at
      from bot_runtime.bot_leases where bot_id = p_bot_id for no key update;
  else
    select epoch, boot_id, expires_at into v_caller.current_epoch, v_caller.holder, v_expires_at
      from bot_runtime.bot_leases where bot_id = p_bot_id for key share;
    perform 1 from bot_runtime.bots where id = p_bot_id for no key update;
  end if;
  perform bot_runtime.runtime_token(p_bot_id);
  if v_caller.boot_id = v_caller.holder and v_caller.epoch = v_caller.current_epoch then
    return v_caller;
  end if;
  if not p_strict and v_caller.boot_id is null and v_caller.epoch is null
     and (v_caller.holder is null or v_expires_at <= clock_timestamp()) then
    return v_caller;
  end if;
  perform bot_runtime.refuse('PT409', 'stale_epoch', case
    when v_caller.epoch = v_caller.current_epoch
      then format('epoch %s is not held by boot %s', v_caller.epoch, coalesce(v_caller.boot_id, 'none'))
    else format('epoch %s, the lease is at %s', coalesce(v_caller.epoch::text, 'none'), v_caller.current_epoch) end);
  return null;
end $$;
comment on function bot_runtime.runtime_claim_check(uuid, boolean, boolean) is
  'The caller of a claim: the present holder of the lease only. Not strict: a caller that names neither boot nor epoch '
  'passes while no live lease is held.';

create or replace function bot_runtime.operator_auth(p_role text) returns bot_runtime.operator
language plpgsql set search_path = '' as $$
declare
  v_ranks    constant text[] := array['viewer', 'auditor', 'operator', 'admin'];
  v_operator bot_runtime.operator;
begin
  select id, name, role into v_operator from bot_runtime.operator_tokens
   where token_hash = sha256(convert_to(bot_runtime.header('x-operator-token'), 'UTF8'))
     and revoked_at is null and (expires_at is null or expires_at > clock_timestamp());
  if not found then
    perform bot_runtime.refuse('PT401', 'operator_token_invalid');
  elsif array_position(v_ranks, v_operator.role) < array_position(v_ranks, p_role) then
    perform bot_runtime.refuse('PT403', 'role_too_low', 'needs ' || p_role);
  end if;
  return v_operator;
end $$;

create or replace function bot_runtime.audit(
  p_operator bot_runtime.operator, p_action text, p_bot_id uuid, p_detail jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  insert into bot_runtime.audit_log (operator, role, action, bot_id, detail)
  values (p_operator.name, p_operator.role, p_action, p_bot_id, coalesce(p_detail, '{}'));
end $$;

-- ----------------------------------------------------------------------------------------------------------- payloads
create or replace function bot_runtime.invalid(p_name text, p_key text, p_why text) returns void
language plpgsql set search_path = '' as $$
begin
  perform bot_runtime.refuse('PT422', 'payload_invalid', format('%s%s: %s', p_name, '.' || p_key, p_why));
end $$;

create or replace function bot_runtime.check_object(p jsonb, p_name text, p_max_bytes integer default 65536)
returns void language plpgsql stable set search_path = '' as $$
begin
  if p is null then
    perform bot_runtime.invalid(p_name, null, 'missing');
  elsif jsonb_typeof(p) <> 'object' then
    perform bot_runtime.invalid(p_name, null, 'not an object');
  elsif octet_length(p::text) > p_max_bytes then
    perform bot_runtime.invalid(p_name, null, format('%s bytes, at most %s', octet_length(p::text), p_max_bytes));
  end if;
end $$;

create or replace function bot_runtime.check_keys(p jsonb, p_name text, p_known text[]) returns void
language plpgsql stable set search_path = '' as $$
begin
  if p - p_known <> '{}' then
    perform bot_runtime.invalid(p_name, (select left(min(key), 64) from jsonb_object_keys(p - p_known) key), 'unknown');
  end if;
end $$;

create or replace function bot_runtime.opt_text(p jsonb, p_name text, p_key text, p_pattern text default null)
returns text language plpgsql stable set search_path = '' as $$
declare
  v_value text := p ->> p_key;
begin
  if v_value is null then
    return null;
  elsif jsonb_typeof(p -> p_key) <> 'string' then
    perform bot_runtime.invalid(p_name, p_key, 'not text');
  elsif v_value !~ p_pattern then
    perform bot_runtime.invalid(p_name, p_key, 'malformed');
  end if;
  return v_value;
end $$;

create or replace function bot_runtime.need_text(p jsonb, p_name text, p_key text, p_pattern text default null)
returns text language plpgsql stable set search_path = '' as $$
declare
  v_value text := bot_runtime.opt_text(p, p_name, p_key, p_pattern);
begin
  if v_value is null or v_value = '' then
    perform bot_runtime.invalid(p_name, p_key, 'missing');
  end if;
  return v_value;
end $$;

create or replace function bot_runtime.opt_money(p jsonb, p_name text, p_key text) returns numeric
language plpgsql stable set search_path = '' as $$
declare
  v_value text := p ->> p_key;
begin
  if v_value is null then
    return null;
  elsif jsonb_typeof(p -> p_key) <> 'string' or v_value !~ '^-?[0-9]{1,40}(\.[0-9]{1,100})?$' then
    perform bot_runtime.invalid(p_name, p_key, 'not a decimal as text');
  end if;
  return v_value::numeric;
end $$;

create or replace function bot_runtime.need_money(p jsonb, p_name text, p_key text) returns numeric
language plpgsql stable set search_path = '' as $$
declare
  v_value numeric := bot_runtime.opt_money(p, p_name, p_key);
begin
  if v_value is null then
    perform bot_runtime.invalid(p_name, p_key, 'missing');
  end if;
  return v_value;
end $$;

create or replace function bot_runtime.opt_bool(p jsonb, p_name text, p_key text) returns boolean
language plpgsql stable set search_path = '' as $$
begin
  if p ->> p_key is null then
    return null;
  elsif jsonb_typeof(p -> p_key) <> 'boolean' then
    perform bot_runtime.invalid(p_name, p_key, 'not true or false');
  end if;
  return (p ->> p_key)::boolean;
end $$;

create or replace function bot_runtime.opt_int(p jsonb, p_name text, p_key text, p_min bigint, p_max bigint)
returns bigint language plpgsql stable set search_path = '' as $$
declare
  v_value text := p ->> p_key;
begin
  if v_value is null then
    return null;
  elsif jsonb_typeof(p -> p_key) not in ('number', 'string') then
    perform bot_runtime.invalid(p_name, p_key, 'not a whole number');
  end if;
  return bot_runtime.whole_number(v_value, p_name, p_key, p_min, p_max);
end $$;

create or replace function bot_runtime.whole_number(
  p_value text, p_name text, p_key text, p_min bigint, p_max bigint) returns bigint
language plpgsql stable set search_path = '' as $$
begin
  if p_value is null or p_value !~ '^-?[0-9]{1,18}$' then
    perform bot_runtime.invalid(p_name, p_key, 'not a whole number');
  elsif p_value::bigint < p_min or p_value::bigint > p_max then
    perform bot_runtime.invalid(p_name, p_key, format('not within %s and %s', p_min, p_max));
  end if;
  return p_value::bigint;
end $$;

create or replace function bot_runtime.opt_time(p jsonb, p_name text, p_key text) returns timestamptz
language plpgsql stable set search_path = '' as $$
declare
  v_value text := p ->> p_key;
  v_time  constant text := '^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])'
    'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])$';
begin
  if v_value is null then
    return null;
  elsif jsonb_typeof(p -> p_key) <> 'string' or v_value !~ v_time then
    perform bot_runtime.invalid(p_name, p_key, 'not an ISO time with its zone');
  elsif substr(v_value, 9, 2) > '28' then
    -- Only here can the cast fail, and only here is the cost of a handler paid.
    begin
      return v_value::timestamptz;
    exception when datetime_field_overflow then
      perform bot_runtime.invalid(p_name, p_key, 'no such day');
    end;
  end if;
  return v_value::timestamptz;
end $$;

create or replace function bot_runtime.need_time(p jsonb, p_name text, p_key text) returns timestamptz
language plpgsql stable set search_path = '' as $$
declare
  v_value timestamptz := bot_runtime.opt_time(p, p_name, p_key);
begin
  if v_value is null then
    perform bot_runtime.invalid(p_name, p_key, 'missing');
  end if;
  return v_value;
end $$;

-- Scalar arguments are declared as text, so that one of a wrong type is refused here by its name and not by a cast.
create or replace function bot_runtime.arg_text(p_value text, p_name text, p_pattern text, p_max integer) returns text
language plpgsql stable set search_path = '' as $$
begin
  if p_value is null or p_value = '' then
    perform bot_runtime.invalid(p_name, null, 'missing');
  elsif char_length(p_value) > p_max then
    perform bot_runtime.invalid(p_name, null, format('%s characters, at most %s', char_length(p_value), p_max));
  elsif p_value !~ p_pattern then
    perform bot_runtime.invalid(p_name, null, 'malformed');
  end if;
  return p_value;
end $$;

create or replace function bot_runtime.arg_int(p_value text, p_name text, p_min bigint, p_max bigint) returns bigint
language plpgsql stable set search_path = '' as $$
begin
  return bot_runtime.whole_number(p_value, p_name, null, p_min, p_max);
end $$;

create or replace function bot_runtime.arg_number(p_value text, p_name text, p_min numeric, p_max numeric)
returns numeric language plpgsql stable set search_path = '' as $$
begin
  if p_value is null or p_value !~ '^-?[0-9]{1,40}(\.[0-9]{1,100})?$' then
    perform bot_runtime.invalid(p_name, null, 'not a number');
  elsif p_value::numeric not between p_min and p_max then
    perform bot_runtime.invalid(p_name, null, format('not within %s and %s', p_min, p_max));
  end if;
  return p_value::numeric;
end $$;

revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
