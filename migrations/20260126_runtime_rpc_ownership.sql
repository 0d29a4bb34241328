-- Who owns a bot: the registration of its runtime, the runtime's tokens, and the lease.
--
-- A token says which bot a process may speak for; the lease says which of the processes that hold a token is its one
-- writer. Every change of owner raises the epoch, and a claim under an epoch that is past is refused (PT409). Changes
-- of owner lock the lease row FOR UPDATE, which waits for the facts under way and makes later ones wait.

create unique index if not exists sessions_open_idx on bot_runtime.sessions (bot_id) where ended_at is null;

create or replace function bot_runtime.end_session(p_bot_id uuid, p_reason text) returns void
language plpgsql set search_path = '' as $$
begin
  update bot_runtime.sessions set ended_at = clock_timestamp(), end_reason = p_reason
   where bot_id = p_bot_id and ended_at is null;
  update bot_runtime.bots set status = 'stopped', updated_at = clock_timestamp()
   where id = p_bot_id and status = 'running';
end $$;

-- Nobody owns the bot afterwards, and every epoch that ever was is past.
create or replace function bot_runtime.depose(p_bot_id uuid, p_reason text) returns bigint
language plpgsql set search_path = '' as $$
declare
  v_epoch bigint;
begin
  update bot_runtime.bot_leases l
     set boot_id = null, expires_at = null,
         epoch = greatest(l.epoch, coalesce((select r.epoch from bot_runtime.bot_runtime r
                                              where r.bot_id = p_bot_id), 0)) + 1
   where l.bot_id = p_bot_id returning l.epoch into v_epoch;
  perform bot_runtime.end_session(p_bot_id, p_reason);
  return v_epoch;
end $$;

create or replace function bot_runtime.opt_name(p_value text, p_name text) returns text
language plpgsql stable set search_path = '' as $$
begin
  return case when p_value is null then null
              else bot_runtime.arg_text(p_value, p_name, '^[^[:cntrl:]]+$', 128) end;
end $$;

-- ------------------------------------------------------------------------------------------------ the operator's side
create or replace function public.bot_runtime_register(
  p_bot_id uuid, p_provider text, p_region text, p_machine_id text, p_ttl_s text default '2592000') returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator   bot_runtime.operator := bot_runtime.operator_auth('admin');
  v_ttl_s      bigint := bot_runtime.arg_int(p_ttl_s, 'p_ttl_s', 1, 31536000);
  v_provider   text := bot_runtime.opt_name(p_provider, 'p_provider');
  v_region     text := bot_runtime.opt_name(p_region, 'p_region');
  v_machine_id text := bot_runtime.opt_name(p_machine_id, 'p_machine_id');
  -- Two random UUIDs are 244 random bits, with no extension.
  v_token      text := 'tbh_rt_' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  v_expires_at timestamptz;
  v_epoch      bigint;
begin
  if p_bot_id is null then
    perform bot_runtime.invalid('p_bot_id', null, 'missing');
  end if;
  perform 1 from bot_runtime.bot_leases where bot_id = p_bot_id for update;
  if not found then
    perform bot_runtime.refuse('PT404', 'bot_not_found', p_bot_id::text);
  end if;
  v_epoch := bot_runtime.depose(p_bot_id, 'registered');
  v_expires_at := clock_timestamp() + make_interval(secs => v_ttl_s);
  insert into bot_runtime.bot_runtime as r (bot_id, runtime_token_hash, token_expires_at, ttl_s, provider, region,
                                            machine_id, epoch, registered_at)
  values (p_bot_id, bot_runtime.token_hash(v_token), v_expires_at, v_ttl_s, v_provider, v_region, v_machine_id,
          v_epoch, clock_timestamp())
  on conflict (bot_id) do update
     set runtime_token_hash = excluded.runtime_token_hash, token_expires_at = excluded.token_expires_at,
         former_token_hash = null, former_valid_until = null, next_token_hash = null, next_expires_at = null,
         ttl_s = excluded.ttl_s, provider = excluded.provider, region = excluded.region,
         machine_id = excluded.machine_id, epoch = excluded.epoch, registered_at = excluded.registered_at,
         revoked_at = null, revoke_reason = null, updated_at = clock_timestamp();
  perform bot_runtime.audit(v_operator, 'register', p_bot_id, jsonb_strip_nulls(jsonb_build_object(
    'provider', v_provider, 'region', v_region, 'machine_id', v_machine_id, 'ttl_s', v_ttl_s, 'epoch', v_epoch)));
  return jsonb_build_object('bot_id', p_bot_id, 'runtime_token', v_token, 'epoch', v_epoch,
                            'expires_at', bot_runtime.utc(v_expires_at));
end $$;
comment on function public.bot_runtime_register(uuid, text, text, text, text) is
$c$Registers the runtime of a bot and gives it a new token; the former tokens die, and whoever owned the bot loses it.
Argument p_provider, p_region, p_machine_id: where the runtime runs, each at most 128 characters or null.
Argument p_ttl_s: life of the token in seconds, 1 to 31536000.
Result: {bot_id, runtime_token, epoch, expires_at}; the token is told this once, only its hash is kept.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs admin); PT404 bot_not_found; PT422 payload_invalid.$c$;

create or replace function public.bot_runtime_revoke(p_bot_id uuid, p_reason text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_operator   bot_runtime.operator := bot_runtime.operator_auth('admin');
  v_reason     text := bot_runtime.arg_text(p_reason, 'p_reason', '^[^[:cntrl:]]+$', 500);
  v_revoked_at timestamptz;
  v_epoch      bigint;
begin
  if p_bot_id is null then
    perform bot_runtime.invalid('p_bot_id', null, 'missing');
  end if;
  perform 1 from bot_runtime.bot_leases where bot_id = p_bot_id for update;
  select revoked_at into v_revoked_at from bot_runtime.bot_runtime where bot_id = p_bot_id;
  if not found then
    perform bot_runtime.refuse('PT404', 'runtime_not_found', p_bot_id::text);
  elsif v_revoked_at is null then
    v_revoked_at := clock_timestamp();
    v_epoch := bot_runtime.depose(p_bot_id, 'revoked');
    update bot_runtime.bot_runtime
       set runtime_token_hash = null, token_expires_at = null, former_token_hash = null, former_valid_until = null,
           next_token_hash = null, next_expires_at = null, epoch = v_epoch, revoked_at = v_revoked_at,
           revoke_reason = v_reason, updated_at = clock_timestamp()
     where bot_id = p_bot_id;
  end if;
  perform bot_runtime.audit(v_operator, 'revoke', p_bot_id, jsonb_build_object('reason', v_reason));
  return jsonb_build_object('bot_id', p_bot_id, 'revoked_at', bot_runtime.utc(v_revoked_at));
end $$;
comment on function public.bot_runtime_revoke(uuid, text) is
$c$Ends every token of a bot's runtime and takes the bot from whoever owns it; a repeat changes nothing.
Argument p_reason: at most 500 characters, kept with the runtime and in the audit log.
Result: {bot_id, revoked_at}.
Refuses: PT401 operator_token_invalid; PT403 role_too_low (needs admin); PT404 runtime_not_found (nothing was ever
registered for this bot); PT422 payload_invalid.$c$;

-- ------------------------------------------------------------------------------------------------- the runtime's side
create or replace function public.bot_runtime_rotate_token(p_bot_id uuid, p_new_hash text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller  bot_runtime.caller := bot_runtime.runtime_claim_check(p_bot_id, false);
  v_hash    bytea := decode(bot_runtime.arg_text(p_new_hash, 'p_new_hash', '^[0-9a-f]{64}$', 64), 'hex');
  v_runtime bot_runtime.bot_runtime;
begin
  select * into v_runtime from bot_runtime.bot_runtime where bot_id = p_bot_id for no key update;
  -- A reply may have been lost, and the token been used since.
  if v_runtime.runtime_token_hash = v_hash then
    return jsonb_build_object('expires_at', bot_runtime.utc(v_runtime.token_expires_at));
  elsif v_runtime.next_token_hash = v_hash and v_runtime.next_expires_at > clock_timestamp() then
    return jsonb_build_object('expires_at', bot_runtime.utc(v_runtime.next_expires_at));
  elsif exists (select 1 from bot_runtime.bot_runtime
                 where runtime_token_hash = v_hash or former_token_hash = v_hash
                    or next_token_hash = v_hash and bot_id <> p_bot_id) then
    perform bot_runtime.invalid('p_new_hash', null, 'known already');
  end if;
  update bot_runtime.bot_runtime
     set next_token_hash = v_hash, next_expires_at = clock_timestamp() + make_interval(secs => ttl_s),
         updated_at = clock_timestamp()
   where bot_id = v_caller.bot_id returning next_expires_at into v_runtime.next_expires_at;
  return jsonb_build_object('expires_at', bot_runtime.utc(v_runtime.next_expires_at));
end $$;
comment on function public.bot_runtime_rotate_token(uuid, text) is
$c$Announces the runtime's next token by its hash; the token becomes the present one when it is first used.
The runtime makes the token and stores it before it calls. The token in use lives until 60 s after that first use, at
most to its own end. An announced token that was never used is replaced by the next announcement.
Argument p_new_hash: SHA-256 of the new token, 64 lowercase hexadecimal digits.
Result: {expires_at} of the new token, whose life counts from this call; a repeat gives the same.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT409 stale_epoch (the caller is not the present owner);
PT422 payload_invalid (the hash is malformed, or of a token that is known already).$c$;

create or replace function public.bot_runtime_claim(
  p_bot_id uuid, p_boot_id text, p_previous_boot_id text default null, p_seen_renewals text default null,
  p_lease_s text default '30') returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_boot     constant text := '^[A-Za-z0-9._-]{1,64}$';
  v_caller   bot_runtime.caller := bot_runtime.runtime_token(p_bot_id);
  v_boot_id  text := bot_runtime.arg_text(p_boot_id, 'p_boot_id', v_boot, 64);
  v_lease_s  numeric := bot_runtime.arg_number(p_lease_s, 'p_lease_s', 0.2, 600);
  v_previous text;
  v_seen     bigint;
  v_lease    bot_runtime.bot_leases;
  v_runtime  bot_runtime.bot_runtime;
  v_now      timestamptz;
begin
  if p_previous_boot_id is not null then
    v_previous := bot_runtime.arg_text(p_previous_boot_id, 'p_previous_boot_id', v_boot, 64);
  end if;
  if p_seen_renewals is not null then
    v_seen := bot_runtime.arg_int(p_seen_renewals, 'p_seen_renewals', 0, 999999999999999999);
  end if;
  select * into v_lease from bot_runtime.bot_leases where bot_id = p_bot_id for update;
  perform bot_runtime.runtime_token(p_bot_id);
  if not (select active from bot_runtime.bots where id = p_bot_id) then
    perform bot_runtime.refuse('PT403', 'bot_inactive', 'p_bot_id');
  end if;
  -- After the lock: the wait for it may have been long.
  v_now := clock_timestamp();
  select * into v_runtime from bot_runtime.bot_runtime where bot_id = p_bot_id;
  if v_lease.boot_id is distinct from v_boot_id then
    -- An expired lease is not enough: the rival has also seen the counter stand still for one lease on its own clock,
    -- so that a jump of the database's clock alone takes the bot from nobody.
    if not coalesce(v_lease.boot_id is null or v_lease.boot_id = v_previous
                    or v_lease.expires_at <= v_now and v_lease.renewals = v_seen, false) then
      perform bot_runtime.refuse('PT409', 'lease_held', format(
        'boot_id=%s renewals=%s lease_s=%s expires_in_s=%s', v_lease.boot_id, v_lease.renewals,
        bot_runtime.as_text(v_lease.lease_s), bot_runtime.as_text(greatest(0,
          round(extract(epoch from v_lease.expires_at - v_now)::numeric, 3)))));
    end if;
    v_lease.epoch := greatest(v_lease.epoch, v_runtime.epoch) + 1;
    v_lease.claimed_at := v_now;
    perform bot_runtime.end_session(p_bot_id, 'superseded');
    insert into bot_runtime.sessions (bot_id, epoch, boot_id) values (p_bot_id, v_lease.epoch, v_boot_id);
    update bot_runtime.bots set status = 'running', updated_at = v_now where id = p_bot_id;
    update bot_runtime.bot_runtime set epoch = v_lease.epoch, updated_at = v_now where bot_id = p_bot_id;
  end if;
  update bot_runtime.bot_leases
     set boot_id = v_boot_id, epoch = v_lease.epoch, lease_s = v_lease_s, renewals = renewals + 1,
         expires_at = v_now + make_interval(secs => v_lease_s), claimed_at = v_lease.claimed_at
   where bot_id = v_caller.bot_id returning * into v_lease;
  return jsonb_build_object(
    'epoch', v_lease.epoch, 'renewals', v_lease.renewals, 'expires_in_s', bot_runtime.as_text(v_lease_s),
    'lease_s', bot_runtime.as_text(v_lease_s), 'expires_at', bot_runtime.utc(v_lease.expires_at),
    'token_expires_at', bot_runtime.utc(v_runtime.token_expires_at), 'token_ttl_s', v_runtime.ttl_s);
end $$;
comment on function public.bot_runtime_claim(uuid, text, text, text, text) is
$c$Takes or renews the lease that makes one process the bot's only writer.
The holder renews under the same epoch. Anybody else gets the bot under the next epoch: when nobody holds it, when the
holder is the boot named as the previous one, or when the lease has expired and the caller has seen its renewal counter.
Argument p_boot_id: the caller's own boot, 1 to 64 letters, digits, dots, underscores or hyphens.
Argument p_previous_boot_id: the boot before it on the same state directory, whose file lock the caller holds.
Argument p_seen_renewals: the counter that the caller saw unchanged for one lease on its own clock.
Argument p_lease_s: length of the lease in seconds, 0.2 to 600.
Result: {epoch, renewals, expires_in_s, lease_s, expires_at, token_expires_at, token_ttl_s}, seconds as text.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot, bot_inactive; PT409 lease_held (detail
`boot_id=... renewals=... lease_s=... expires_in_s=...`); PT422 payload_invalid.$c$;

create or replace function public.bot_runtime_release(p_bot_id uuid, p_boot_id text, p_reason text default 'stopped')
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  v_caller  bot_runtime.caller := bot_runtime.runtime_token(p_bot_id);
  v_boot_id text := bot_runtime.arg_text(p_boot_id, 'p_boot_id', '^[A-Za-z0-9._-]{1,64}$', 64);
  v_reason  text := bot_runtime.arg_text(p_reason, 'p_reason', '^[^[:cntrl:]]+$', 200);
begin
  perform 1 from bot_runtime.bot_leases where bot_id = p_bot_id for update;
  perform bot_runtime.runtime_token(p_bot_id);
  update bot_runtime.bot_leases set boot_id = null, expires_at = null
   where bot_id = v_caller.bot_id and boot_id = v_boot_id and epoch = coalesce(v_caller.epoch, epoch);
  if not found then
    return jsonb_build_object('released', false);
  end if;
  perform bot_runtime.end_session(p_bot_id, v_reason);
  return jsonb_build_object('released', true);
end $$;
comment on function public.bot_runtime_release(uuid, text, text) is
$c$Gives the lease back, so that the next process need not wait for its end; one that is not the caller's stays.
Argument p_boot_id: the caller's own boot.
Argument p_reason: why the session ends, at most 200 characters.
Result: {released}.
Refuses: PT401 runtime_token_invalid; PT403 not_your_bot; PT422 payload_invalid.$c$;

do $$
declare
  v_function text;
begin
  foreach v_function in array array[
    'bot_runtime_register(uuid, text, text, text, text)', 'bot_runtime_revoke(uuid, text)',
    'bot_runtime_rotate_token(uuid, text)', 'bot_runtime_claim(uuid, text, text, text, text)',
    'bot_runtime_release(uuid, text, text)'] loop
    execute format('revoke all on function public.%s from public, anon, authenticated', v_function);
    execute format('grant execute on function public.%s to service_role', v_function);
  end loop;
end $$;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
