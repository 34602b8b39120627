#!/bin/sh
# hand-out.sh NODES PARTIES OWNER: give each party its node's certificate and its least-privilege macaroon,
# and nothing of any other node. Runs again at each start, since LND may have made a new certificate.
set -eu
nodes=$1 parties=$2 owner=$3
host=$(dirname "$0")/host

# give SOURCE TARGET: readable by OWNER alone, there whole or not at all.
give() {
    mkdir -p "$(dirname "$2")"
    install -m 0600 -o "$owner" "$1" "$2.new"
    mv -f "$2.new" "$2"
}

for role in broker provider; do
    give "$nodes/$role/tls.cert" "$parties/$role/tls.cert"
    give "$nodes/$role/$role.macaroon" "$parties/$role/$role.macaroon"
done

# bitcoind's password in the form of its own cookie file.
value() { sed -n "s/^$1=//p" "$nodes/bitcoind/bitcoin.conf"; }
mkdir -p "$parties/chainwatch"
(umask 077 && printf '%s:%s' "$(value rpcuser)" "$(value rpcpassword)" >"$parties/chainwatch/plain")
give "$parties/chainwatch/plain" "$parties/chainwatch/cookie"
rm "$parties/chainwatch/plain"

# For the host: a profile for each of the two roles that people play from there.
for role in buyer provider; do
    give "$nodes/$role/tls.cert" "$parties/host/compose/$role.cert"
    give "$nodes/$role/$role.macaroon" "$parties/host/compose/$role.macaroon"
done
chmod 0700 "$parties/host/compose"
for profile in compose compose-provider; do
    give "$host/$profile.toml" "$parties/host/$profile.toml"
done
