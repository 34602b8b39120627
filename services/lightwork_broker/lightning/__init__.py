"""Lightning behind narrow ports: what the broker may ask of its node, and in which words."""

import os

# LND's certificate is ECDSA, and gRPC reads its cipher list once, when it is first loaded.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "HIGH+ECDSA")
