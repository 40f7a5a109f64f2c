"""The servers that are measured, one file each."""

from benchmarks.serving.peer import Peer
from benchmarks.serving.peers import bentoml, fastapi, litserve, mlserver, multi_model_server, ours, ray_serve, sample

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        ours.WSGI,
        ours.ASGI,
        sample.PEER,
        fastapi.PEER,
        litserve.PEER,
        bentoml.PEER,
        mlserver.PEER,
        ray_serve.PEER,
        multi_model_server.PEER,
    )
}
OURS = (ours.WSGI.name, ours.ASGI.name)
FASTAPI = fastapi.PEER.name
SAMPLE = sample.PEER.name
# Servers that bring more than HTTP: processes for models, batches, metrics.
MODEL_SERVERS = tuple(
    peer.name for peer in (litserve.PEER, bentoml.PEER, mlserver.PEER, ray_serve.PEER, multi_model_server.PEER)
)
