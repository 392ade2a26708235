-- A database that began with this build has no replica of a build that leaves the numbers of changes to
-- the database: that trigger would cost each change, and serve nobody.

do $$
begin
    -- The list of migrations has rows of other transactions only where an earlier build made some.
    if not exists (select from schema_migrations where xmin <> pg_current_xact_id()::xid) then
        drop trigger number_the_change on balance_changes;
        drop function number_the_change();
    end if;
end
$$;
