"Written phantoms: their truth, their reuse, and interrupted writing"
from pathlib import Path
import pytest
from fundus_fastai.core import DataError

def test_truth_lies_beside(drawn):
    from fundus_fastai.phantom.fundus import fundus_truth
    for name in ('rfmid','ukb','odir5k'):
        t,root = drawn(name)
        for r in t.iloc[[0,-1]].itertuples():
            o = fundus_truth(r.path)
            assert (str(o.patient),o.eye,o.grade)==(r.patient,r.eye,r.grade), (name, r.path)

def test_phantoms_are_reused_or_refused(drawn, tmp_path):
    from fundus_fastai.phantom.layouts import write_layout
    t,root = drawn('idrid')
    before = {o:o.stat().st_mtime_ns for o in root.rglob('*')}
    assert write_layout('idrid', root, patients=22, seed=1, size=128).equals(t)
    assert {o:o.stat().st_mtime_ns for o in root.rglob('*')}==before
    with pytest.raises(DataError, match='patients is 22 there, 23 is wanted'):
        write_layout('idrid', root, patients=23, seed=1, size=128)
    with pytest.raises(DataError, match='name is idrid there, aptos2019 is wanted'):
        write_layout('aptos2019', root, patients=22, seed=1, size=128)
    (tmp_path/'thesis').mkdir(); (tmp_path/'thesis/x.txt').touch()
    with pytest.raises(DataError, match='holds other things'): write_layout('idrid', tmp_path/'thesis')
    for kw,why in [(dict(patients=3),'between 8 and'), (dict(seed=-1),'`seed` is to be at least 0'), (dict(size=7),'size=7'),
                   (dict(patients='8'),"`patients` is to be a whole number"), (dict(size=96.5),'`size` is to be a whole')]:
        with pytest.raises(DataError, match=why): write_layout('idrid', tmp_path/'x', **kw)
    again = write_layout('idrid', tmp_path/'again', patients=22, seed=1, size=128)
    assert [Path(o).read_bytes() for o in again.path]==[Path(o).read_bytes() for o in t.path]

@pytest.mark.parametrize('why', [KeyboardInterrupt, OSError])
def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch, why):
    from fundus_fastai.phantom import layouts
    real,calls = layouts.phantom_fundus,[]
    def stop(*a, **k):
        calls.append(1)
        if len(calls)==5: raise why()
        return real(*a, **k)
    monkeypatch.setattr(layouts, 'phantom_fundus', stop)
    with pytest.raises(why): layouts.write_layout('eyepacs', tmp_path/'e', patients=10, size=128)
    assert list(tmp_path.iterdir())==[] and len(calls)<20
