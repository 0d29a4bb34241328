-- What an operator asks first of a bot that does not trade: which entries risk has refused, and what people were told.
--
-- Both were rows that no function gave out. bot_admin_show gives the newest of them; its arguments stay as they are.

create index if not exists notifications_bot_id_id_idx on bot_runtime.notifications (bot_id, id desc);

create or replace function bot_runtime.decisions_json(p_bot_id uuid, p_limit bigint) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'proposal_id', proposal_id, 'strategy', strategy, 'symbol', symbol, 'bar_open', bot_runtime.utc(bar_open),
    'purpose', purpose, 'verdict', verdict, 'rule', rule, 'detail', detail,
    'recorded_at', bot_runtime.utc(recorded_at)) order by recorded_at desc, id desc), '[]')
    from (select * from bot_runtime.risk_decisions
           where bot_id = p_bot_id and recorded_at > clock_timestamp() - interval '30 days'
             and purpose in ('entry', 'pyramid')
           order by recorded_at desc, id desc limit p_limit) newest
$$;
comment on function bot_runtime.decisions_json(uuid, bigint) is
  'What risk has said to the newest entries and additions of a bot, of the last 30 days.';

create or replace function bot_runtime.notices_json(p_bot_id uuid, p_limit bigint) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'key', key, 'kind', payload ->> 'kind', 'severity', payload ->> 'severity',
    'text', left(payload ->> 'text', 1000), 'exit_code', payload -> 'exit_code',
    'at', bot_runtime.utc(at)) order by id desc), '[]')
    from (select * from bot_runtime.notifications where bot_id = p_bot_id order by id desc limit p_limit) newest
$$;
comment on function bot_runtime.notices_json(uuid, bigint) is
  'The newest notices of a bot for people; kind and severity as the runtime told them, null where it did not.';

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
      'decisions', bot_runtime.decisions_json(b.id, least(v_limit, 100)),
      'notices', bot_runtime.notices_json(b.id, least(v_limit, 20)),
      'adjustments', (select coalesce(jsonb_agg(bot_runtime.adjustment_json(a) order by a.at desc), '[]')
                        from bot_runtime.bot_adjustments a where a.bot_id = b.id),
      'rows', bot_runtime.row_counts(b.id))
    into v_shown from bot_runtime.bots b where b.id = p_bot_id;
  return v_shown;
end $$;
comment on function public.bot_admin_show(uuid, text) is
$c$Shows one bot whole, as of one instant.
Argument p_limit: how many of the newest orders and fills, 1 to 1000.
Result: {bot, state, lease, controls, health, position, positions, orders, fills, events, decisions, notices,
adjustments, rows}: position is the open one (the
latest changed, when there are several in positions) or null, rows counts each table's; state and health are null before
the first heartbeat and flush; orders, fills, events (of recovery, at most 100 of the last 30 days), decisions (what risk
said to entries and additions, as many), notices (to people, at most 20) and adjustments are newest first.
Refuses: PT401 operator_token_invalid; PT404 bot_not_found; PT422 payload_invalid (p_bot_id, p_limit).$c$;
revoke all on function public.bot_admin_show(uuid, text) from public, anon, authenticated;
grant execute on function public.bot_admin_show(uuid, text) to service_role;
revoke all on all functions in schema bot_runtime from public, anon, authenticated, service_role;
