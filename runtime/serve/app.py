"""The application: its endpoints behind what every request passes."""

from fastapi import FastAPI

from .access import Access
from .answer import Answers
from .body import BodyReader
from .chat import add_chat
from .completions import add_completions
from .errors import install_error_handlers
from .metrics.server import add_metrics
from .models import add_models
from .request_log import RequestLog, WriteLine
from .schema import schema_of
from .served_model import ServedModel
from .tokens import add_tokens
from .worker import Worker


def create_app(
    worker: Worker,
    model: ServedModel,
    *,
    access: Access = Access(),
    read_timeout: float = 30.0,
    write_line: WriteLine | None = None,
    measures: bool = False,
) -> FastAPI:
    """The application over a running worker. A body has `read_timeout` seconds to come; `write_line` is given one line
    per request; if it `measures`, answers say what speculation did for them."""
    # The pages that FastAPI makes of the schema load scripts from elsewhere; the schema itself stays.
    app = FastAPI(title="treewright", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(BodyReader, read_timeout=read_timeout)
    access.guard(app)
    app.add_middleware(RequestLog, write=write_line)  # the last one added is the outermost
    install_error_handlers(app)
    answers = Answers(worker, model.constrainer, measures=measures)
    add_chat(app, answers, model)
    add_completions(app, answers, model)
    add_metrics(app, worker.metrics)
    add_models(app, worker, model)
    add_tokens(app, model)
    app.openapi = lambda: schema_of(app, model)
    return app
