-- What each change paid for and nobody needs.

-- Replicas of earlier builds tell their own row from one that they find by `attempt`. This build tells it
-- by the number and the instant, which it stores anyway: its rows have an attempt that nobody makes.
alter table idempotency_keys alter column attempt set default '00000000-0000-0000-0000-000000000000';

-- How long a client's words may be is a rule for requests, and the program's. PostgreSQL reads the text of
-- each check anew for each row; those that guard the money stay.
alter table idempotency_keys drop constraint idempotency_keys_key_check;
alter table balance_changes drop constraint balance_changes_reference_check;
