create table s(t varchar, u varchar, n integer);
insert into s values ('abc', 'a%', 1), ('żółw', 'ż_', 2), (null, 'x', 3), ('', '%', 0), ('a%c', null, null), ('ABC', 'abc', 3), ('日本語テキスト', '日%', 5);
select t, t like 'a%', t like '%c', t like 'a_c', t like '%', t like '', t like '%b%', t like 'a\%c' escape '\', t ilike 'ab%', t like null from s;
select t, length(t), strlen(t), substr(t, 2), substr(t, 0, 2), substr(t, -2), substr(t, -2, 1), substr(t, 2, 100), substr(t,2,0), substr(t, 3, -1), substr(t,-100,101), substring(t, 0), substr(t, 5, -3) from s;
select t || 'x' like '%x', starts_with(t, 'a'), ends_with(t, 'c'), contains(t, 'b'), contains(t, ''), starts_with(t, ''), contains(t || u, 'ca'), length(t || u), substr(t || u, 2, 3) from s;
select t like u, starts_with(t, u), n from s where t || 'q' not like '%c_' and length(t || u) > 1;
select left(t,2), right(t, 2), left(t, -1), right(t,-1), reverse(t), repeat(t, 2), lpad(t, 5, 'xy'), rpad(t,5,'z'), trim(t), upper(t), lower(t), replace(t,'b','--'), position('b' in t), strpos(t,'c'), instr(t,'b'), concat(t, u, n), concat_ws('-', t, u, n), ascii(t), split_part(t, 'b', 1) from s;
