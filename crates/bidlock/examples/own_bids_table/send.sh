#!/bin/sh
# Sends one bid for `bidlock bid MARKETPLACE POSTING -- ./send.sh`, and keeps it in the table.
sql() {
    psql "$BIDS_URL" -XqAt -v ON_ERROR_STOP=1 -v marketplace="$BIDLOCK_MARKETPLACE" \
        -v posting="$BIDLOCK_POSTING" -v token="$BIDLOCK_TOKEN" \
        -v attempt="$BIDLOCK_ATTEMPT_ID" -v reference="${reference-}"
}

claimed=$(echo "SELECT claim_bid(:'marketplace', :'posting', :token, :'attempt', 25000)" | sql)
# Nothing was sent: another row is there, or the database gave no answer.
[ "$claimed" = t ] || exit 75

if reference=$(./submit "$BIDLOCK_POSTING" "$BIDLOCK_ATTEMPT_ID"); then
    # The bid is placed, whether or not the table learns of it now.
    echo "SELECT close_bid(:'attempt', 'placed', :'reference')" | sql || true
    echo "$reference"
    exit 0
fi
# Nobody knows how it went.
exit 1
