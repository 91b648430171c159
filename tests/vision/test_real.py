"The table of figures on real eyes, on phantoms in the same layouts"
import sys
from pathlib import Path
import numpy as np, pandas as pd, pytest, timm, torch
from fundus_fastai.data.load import open_data
sys.path.insert(0, str(Path(__file__).parents[1]/'benchmarks'))
import real

@pytest.fixture(scope='module')
def there(tmp_path_factory):
    "Phantoms as oct_dme and odir5k lie, and files of weights of two tiny nets"
    root = tmp_path_factory.mktemp('real')
    scans = open_data('kermany2018', source='phantom', patients=30)
    (root/'data/oct_dme').mkdir(parents=True); (root/'w').mkdir()
    pd.DataFrame(dict(file=scans.path, patient_id=scans.patient, eye='OD', DME=(scans.label=='DME').astype(int))).to_csv(root/'data/oct_dme/labels.csv', index=False)
    (root/'data/odir5k').symlink_to(open_data('odir5k', source='phantom', patients=20).attrs['root'])
    for i,a in enumerate(('test_efficientnet','test_resnet')):
        torch.manual_seed(i)
        torch.save(timm.create_model(a).state_dict(), root/f'w/{a}-none.pth')
    return root

def made(there, only, out='a.csv'):
    real.main([f"{there/'data'}", f"{there/'w'}", '--archs', 'test_efficientnet,test_resnet', '--keep', f"{there/'keep'}", '--out', f'{there/out}',
               '--only', only, '--side', '32', '--folds', '1', '--epochs', '1', '--threads', '1'])
    return pd.read_csv(there/out)

def test_rows_of_scans(there):
    "Readouts of two nets and their mean, once each; what confounds the set stands beside them"
    made(there, 'oct_dme,readout')
    t = made(there, 'oct_dme,together')
    flat = ['readout, retina']*2
    assert t.recipe.tolist()==[*['readout']*2, *flat, *['readout, retina, mirrored']*2, *flat, *['readout, mirrored']*2, 'together', 'together, retina too',
                               'together, retina and mirror too'] and (t.images>=t.patients).all()
    assert t[t.recipe==flat[0]].side.astype(int).tolist()==[64,64,96,96] # at the net's own side, and at half as much again
    assert ((t.low<=t.figure)&(t.figure<=t.high)).all() and t.confounded.str.contains('patient numbers').all()
    assert t.baselines.str.match('border .*; file .*; contrast ').all() and t.command.str.contains('--only oct,oct_dme,').all()
    pd.testing.assert_frame_equal(t, made(there, 'oct_dme,readout')) # nothing is made twice

def test_rows_of_people(there):
    "Age by images and by patients; kernels for patients alone"
    made(there, 'age,readout', 'b.csv')
    t = made(there, 'age,kernel of places', 'b.csv')
    assert t.per.tolist()==['image','patient']*4+['patient']*3 and t.recipe.iloc[-1]=='kernel of places'
    assert t.recipe.tolist()[:8]==['readout']*4+['readout of places']*4 # blocks of two nets, then their places, too
    blocks,places = (t[t.recipe==o].figure.tolist() for o in ('readout','readout of places'))
    assert blocks!=places
    assert (t.metric=='mae').all() and t.figure.between(1, 40).all() and t.baselines.str.contains('one guess').all()
    assert {f.suffix for f in (there/'keep').rglob('*') if f.is_file()}=={'.npz','.npy','.pkl'} # no picture is kept

def test_what_is_looked_at_does_not_know_the_answer(there):
    "Answers of a fold do not change with the labels of that fold"
    df = real.frame(there/'data', 'oct', 'oct_dme', 'DME')
    x = np.random.default_rng(0).normal(size=(len(df),8)).astype(np.float32)
    y,deal = real.truth(df, 'oct', 'auc'),real.folds(df)
    held = deal[0]
    turned = y.copy()
    turned[held] = 1-turned[held]
    assert np.array_equal(real.kernel(None, df, y, [x])[held], real.kernel(None, df, turned, [x])[held])
