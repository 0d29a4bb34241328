-- What the tests call: small functions, each for one habit of PostgREST. Applied by the superuser, once.
create schema hidden;
create schema extensions;
create role stranger nologin;

create table public.items (id int primary key, label text not null check (label <> ''), parent int references public.items);
create sequence public.visits;
create type public.pair as (a int, b text);
grant select, insert, update, delete on public.items to anon, service_role;
grant usage, select on sequence public.visits to anon;
grant usage on schema public, extensions to anon, authenticated, service_role;

create function public.add(a int, b int) returns int language sql immutable as 'select a + b';
create function public.ping() returns text language sql immutable as $$select 'pong'$$;
create function public.nothing() returns void language plpgsql as 'begin end';
create function public.no_int() returns int language sql as 'select null::int';
create function public.ints() returns int[] language sql as 'select array[1, 2, 3]';
create function public.series(n int) returns setof int language sql as 'select generate_series(1, n)';
create function public.letters() returns table (a text) language sql as $$select 'A'$$;
create function public.plus_one(num int, out num_plus_one int) language sql as 'select num + 1';
create function public.a_pair() returns public.pair language sql as $$select (1, 'one')::public.pair$$;
create function public.no_pair() returns public.pair language sql as 'select null::public.pair';
create function public.pairs() returns setof public.pair language sql as $$values (1, 'one'), (2, 'two')$$;
create function public.a_record() returns record language plpgsql as
  'declare r record; begin select 7 as id into r; return r; end';
create function public.money() returns numeric language sql as 'select 12345678901234567890.123456789';
create function public.three_defaults(a int default 1, b int default 2, c int default 3) returns int
  language sql as 'select a * 100 + b * 10 + c';
create function public.over(a int) returns text language sql as $$select 'a'$$;
create function public.over(a int, b int) returns text language sql as $$select 'a, b'$$;
create function public.twin(a int) returns text language sql as $$select 'int'$$;
create function public.twin(a text) returns text language sql as $$select 'text'$$;
create function public.whole(json) returns json language sql as 'select $1';
create function public.document(doc json) returns json language sql as 'select doc';
create function public.kind_of(doc jsonb) returns text language sql as 'select jsonb_typeof(doc)';
create function public.sum_of(variadic numbers int[]) returns bigint
  language sql as 'select sum(n) from unnest(numbers) n';
create function public.echo(value text default 'unset') returns text language sql as 'select value';
create function public."Odd ""name"" %s"("a b" int) returns int language sql as 'select "a b"';
create function public.letter_of(letter character) returns text language sql as 'select letter::text';

create function public.put_item(id int, label text, parent int default null) returns int language plpgsql as
  'begin insert into public.items values (put_item.id, put_item.label, put_item.parent); return put_item.id; end';
create function public.put_items(first int, n int) returns setof int language plpgsql as
  $$begin return query insert into public.items select i, 'x' from generate_series(first, first + n - 1) i
    returning items.id; end$$;
create function public.stable_put(id int) returns int language plpgsql stable as
  $$begin return public.put_item(id, 'x'); end$$;
create function public.has_item(id int) returns bool language sql stable as
  'select exists (select from public.items i where i.id = has_item.id)';
create function public.visit() returns bigint language sql as $$select nextval('public.visits')$$;
create function public.visited() returns bigint language sql as 'select last_value from public.visits';

create function public.refuse(state text, message text, detail text default null, hint text default null)
  returns void language plpgsql as $$begin
    raise exception using errcode = state, message = message, detail = coalesce(refuse.detail, ''),
      hint = coalesce(refuse.hint, '');
  end$$;
create function public.refuse_plainly() returns void language plpgsql as $$begin
    raise exception 'no %', 'way' using detail = 'why', hint = 'how'; end$$;
create function public.assert_false() returns void language plpgsql as $$begin assert false, 'never'; end$$;
create function public.put_then_refuse(id int) returns void language plpgsql as
  $$begin insert into public.items values (id, 'x'); raise exception 'changed my mind'; end$$;
create function public.conflict_until(run int) returns bigint language plpgsql as $$declare n bigint; begin
    n := nextval('public.visits');
    if n % 10 < run then raise exception using errcode = '40001', message = 'try again'; end if;
    return n; end$$;

create function public.header(name text) returns text language sql as
  $$select nullif(current_setting('request.headers', true), '')::json ->> name$$;
create function public.setting(name text) returns text language sql as 'select current_setting(name, true)';
create function public.who() returns text language sql as 'select current_user::text';
create function public.answer_with(status text, headers text) returns text language sql as
  $$select set_config('response.status', status, true) || set_config('response.headers', headers, true)$$;
create function public.doze(seconds float) returns void language sql as 'select pg_sleep(seconds)';
create function public.doze_briefly(seconds float) returns void language sql
  set statement_timeout = '100ms' as 'select pg_sleep(seconds)';
create function public.isolation() returns text language sql set default_transaction_isolation = 'serializable' as
  $$select current_setting('transaction_isolation')$$;
create function public.end_my_server() returns bool language sql security definer as
  'select pg_terminate_backend(pg_backend_pid())';

grant usage on schema hidden to anon;
create function hidden.secret() returns text language sql as $$select current_setting('search_path')$$;

create function public.guarded() returns text language sql as $$select 'in'$$;
revoke execute on function public.guarded() from public;
grant execute on function public.guarded() to service_role;
