"Steps between a table and a learner"
import shutil
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from PIL import Image
from fundus_fastai.data.splits import split_patients
from fundus_fastai.vision.steps import refit, same_people, split_frame

def test_the_same_file_under_two_patients_ties_them(tmp_path, capsys):
    "Byte-identical files keep their patients on one side; dealt without a look at the files they part on some seeds"
    rng = np.random.default_rng(0)
    for i in range(20): Image.fromarray(rng.integers(0, 255, (8,8), dtype=np.uint8)).save(tmp_path/f'{i}.png')
    shutil.copy(tmp_path/'3.png', tmp_path/'9.png')
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{i}.png') for i in range(20)], patient=[f'p{i:02}' for i in range(20)],
                           eye=None, label=['a','b']*10))
    df.attrs['root'] = str(tmp_path)
    def parted(f): return [seed for seed in range(8) if f(df, seed=seed).set_index('patient').split[['p03','p09']].nunique()>1]
    assert parted(split_patients) and not parted(split_frame)
    assert 'the same: 1; their 2 patients are kept' in capsys.readouterr().err

def test_patients_who_share_a_picture_are_held_out_together(tmp_path, monkeypatch):
    "Also by way of a third; their own names stay in what is written"
    bits = dict(a=b'1', b=b'1', c=b'22', d=b'333')
    rows = [(k, bits[k]) for k in 'abcd']+[('b',b'4444'), ('c',b'4444'), ('d',b'55555')]
    for i,(_,o) in enumerate(rows): (tmp_path/f'{i}.png').write_bytes(o)
    df = pd.DataFrame([(str(tmp_path/f'{i}.png'), k) for i,(k,_) in enumerate(rows)], columns=['path','patient'])
    assert same_people(df).tolist()==['a','a','a','d','a','a','d']
    assert df.patient.tolist()==[k for k,_ in rows]
    seen = []
    def crossed(x, asked, who, k): seen.append(list(who)); raise InterruptedError
    monkeypatch.setattr('fundus_fastai.vision.steps.cross_fitted', crossed)
    side = lambda o: SimpleNamespace(items=o)
    learn = SimpleNamespace(dls=SimpleNamespace(train_ds=side(df[:4]), valid_ds=side(df[4:])), probed=(0,0), output=SimpleNamespace(names='xy'))
    with pytest.raises(InterruptedError): refit(learn, df, tmp_path)
    assert seen==[['a','a','a','d','a','a','d']]
