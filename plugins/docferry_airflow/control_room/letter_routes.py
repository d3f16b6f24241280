"""Dead letters in the control room: a list for who may see the migration, and documents for who may replay them.

To see documents changes nothing but the audit trail. It is asked by POST, with a header of the page's own: a page of another site
cannot send one without being asked first, and is never allowed to.
"""

# No `from __future__ import annotations`: FastAPI would take what a route depends on for parameters of the query.

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from docferry.flows.ledger.approvals import IN_AIRFLOW
from docferry.flows.reporting.letters import masked_letters, shown_letters
from fastapi import APIRouter, Body, Depends, Header, HTTPException

from docferry_airflow.control_room.web import answer

OF = ".dead_letters"
"""The DAG that replays them: who may see it may list, who may edit it may see documents."""
OURS, HERE = "1", "same-origin"


def from_the_page(x_docferry: Annotated[str, Header()] = "", sec_fetch_site: Annotated[str, Header()] = HERE) -> None:
    """Raises HTTPException for what the page itself has not sent. A browser that says nothing of the site is an old one."""
    if x_docferry != OURS or sec_fetch_site != HERE:
        raise HTTPException(403, "only the control room itself may ask this")


letters = APIRouter()


@letters.get("/api/{dag_id}/letters", dependencies=[Depends(requires_access_dag("GET"))])
def list_of_letters(dag_id: str) -> Any:
    """Handles, reasons and times."""
    return answer(dag_id, OF, masked_letters)


@letters.post(
    "/api/{dag_id}/letters/{collection}",
    dependencies=[Depends(requires_access_dag("PUT")), Depends(from_the_page)],
)
def documents_of_letters(
    dag_id: str, collection: str, letters: Annotated[list[str], Body(embed=True)], user: GetUserDep
) -> Any:
    """The documents of letters of a collection; that this user has looked is in the ledger then."""
    by = f"{user.get_name()}{IN_AIRFLOW}"
    return answer(dag_id, OF, lambda migration, ledger: shown_letters(migration, ledger, collection, letters, by))
