"What the tests of data share"
import os
import pytest
from fundus_fastai.data.catalog import cards
from made import drawn

@pytest.fixture
def nobody(tmp_path, monkeypatch):
    "An empty home without credentials, and phantoms that cost nothing"
    for k in list(os.environ):
        if k.startswith(('KAGGLE','XDG')): monkeypatch.delenv(k)
    for k in ('HOME','USERPROFILE'): monkeypatch.setenv(k, str(tmp_path/'home'))
    monkeypatch.setenv('FUNDUS_HOME', str(tmp_path/'data'))
    monkeypatch.setattr(cards['kermany2018'], 'phantom', drawn)
    return tmp_path
