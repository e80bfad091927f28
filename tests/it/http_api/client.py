"""Deploys, scales and rolls back an app with a client that was generated from the OpenAPI document."""

import sys
import time

import paas_client
from paas_client.api.apps import apps_create
from paas_client.api.operations import operations_show
from paas_client.api.ps import ps_report, ps_scale
from paas_client.api.releases import releases_list, releases_rollback
from paas_client.models import AppsCreateBody, PsScaleBody, ReleasesRollbackBody
from paas_client.models.operation_state import OperationState

base, token = sys.argv[1:]
client = paas_client.AuthenticatedClient(base_url=base, token=token, raise_on_unexpected_status=True)


def ended(response):
    """The result of a change, which may go on after its response."""
    assert response.status_code in (200, 202), response
    document = response.parsed
    while response.status_code == 202:
        document = operations_show.sync(document.id, client=client)
        if document.state != OperationState.RUNNING:
            assert document.state == OperationState.SUCCEEDED, document
            return document.result
        time.sleep(0.2)
    return document


created = apps_create.sync_detailed(client=client, body=AppsCreateBody(app="generated"))
assert created.status_code in (201, 409), created
quantities = PsScaleBody()
quantities["web"] = 3
ended(ps_scale.sync_detailed("app", client=client, body=quantities))
instances = ps_report.sync(client=client)
assert len([row for row in instances if row.app == "app"]) == 3, instances
releases = releases_list.sync("app", client=client)
assert [row.release for row in releases] == [2, 1], releases
ended(releases_rollback.sync_detailed("app", client=client, body=ReleasesRollbackBody(release=1)))
print([row.release for row in releases_list.sync("app", client=client)])
