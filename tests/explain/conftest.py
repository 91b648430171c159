"Maps of few windows are asked as whole pictures; here nearly all have few, and most tests are about windows"
import pytest
from fundus_fastai.explain import occlusion

@pytest.fixture(autouse=True)
def on_windows(monkeypatch): monkeypatch.setattr(occlusion, 'few_jobs', 0)
