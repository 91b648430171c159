"Real images: the parsers read them, and a short training learns from them. Skipped where FUNDUS_TEST_DATA is not set"
import os
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from fundus_fastai.cli import main
from fundus_fastai.core import read_json
from fundus_fastai.data.catalog import read_csv, read_dataset
from fundus_fastai.data.load import open_data
from fundus_fastai.vision.model import load_model
from fundus_fastai.options import DataOptions, TrainOptions, UnseenOptions
from fundus_fastai.run.train import evaluate_run, train_run

def test_kermany_samples(test_data):
    "Patients and classes come from the names; the file without a class is left out or named, not guessed"
    df = read_dataset('kermany2018', test_data/'kermany_samples')
    assert set(zip(df.patient, df.label)) >= {('15307','DME'), ('53018','DRUSEN'), ('1384','NORMAL')}
    assert not df.path.str.endswith('test_img.jpeg').any()
    assert (df.groupby('patient').label.nunique()==1).all() and all(map(os.path.isfile, df.path))

def test_oct_dme_table(test_data):
    src = test_data/'oct_dme/labels.csv'
    raw,df = pd.read_csv(src, dtype=str),read_csv(src, label='DME', patient='patient_id')
    assert len(df)==len(raw)==709 and df.patient.nunique()==raw.patient_id.nunique()==527
    assert df.label.tolist()==raw.DME.tolist() and df.patient.tolist()==raw.patient_id.tolist()
    assert df.eye.tolist()==raw.eye.map({'OD':'R','OI':'L'}).tolist()
    assert [os.path.basename(o) for o in df.path]==raw.file.tolist() and all(map(os.path.isfile, df.path))
    assert open_data(src, label='DME', patient='patient_id').attrs['source']=='local'

@pytest.fixture(scope='module')
def small_table(test_data, tmp_path_factory):
    "150 scans of `oct_dme`, 75 with edema, each of another patient where it can be"
    df = pd.read_csv(test_data/'oct_dme/labels.csv', dtype=str).drop_duplicates(['patient_id','DME'])
    df = pd.concat([o.sample(75, random_state=0) for _,o in df.groupby('DME')]).sort_index()
    to = tmp_path_factory.mktemp('table')/'labels.csv'
    df[['file','patient_id','eye','DME']].to_csv(to, index=False)
    return to

def where(test_data): return dict(images=test_data/'oct_dme/images', label='DME', patient='patient_id')

@pytest.fixture(scope='module')
def run(small_table, test_data, test_weights, tmp_path_factory):
    "A short training from ImageNet weights, by the verb"
    out,n = tmp_path_factory.mktemp('runs')/'run',torch.get_num_threads()
    torch.set_num_threads(1) # on a busy machine more of them wait for each other
    opts = TrainOptions('squeezenet1_1', weights=str(test_weights/'squeezenet1_1-imagenet.npz'), size=128, epochs=5, bs=16, workers=0)
    s = train_run('oct', DataOptions(small_table, **where(test_data)), opts, maps=1, out=out)
    torch.set_num_threads(n)
    return out,s

def test_learns_real_edema(run):
    "On patients it has not seen, .90 to .94 by seed; a net that learned nothing would come to .5, give or take .1"
    out,s = run
    split = pd.read_csv(out/'split.csv', dtype=str)
    assert (split.groupby('patient').split.nunique()==1).all()
    m = read_json(out/'metrics.json')
    assert m['source']=='local' and m['split']=='test' and m['n_images']==(split.split=='test').sum()>=25
    assert m['metrics']['auc']['value'] > .8, m['metrics']['auc']

def test_run_tells_no_folder(run, small_table, test_data, test_weights):
    "A run folder may be sent to somebody: it does not say where a hospital keeps its files"
    out,_ = run
    files = [o for o in out.rglob('*') if o.is_file() and o.suffix!='.safetensors']
    assert {'config.json','metrics.json','predictions.csv','split.csv','report.html','README.md'} <= {o.name for o in files}
    for f in files:
        text = f.read_text()
        for secret in map(str, [test_data, test_weights, small_table.parent, out.parent]): assert secret not in text, (f.name, secret)

def test_evaluate_again(run, small_table, test_data, tmp_path):
    "The saved model, loaded and asked about the same data, says the same of its test patients"
    out,s = run
    again = evaluate_run(out, UnseenOptions(small_table, **where(test_data)), maps=0, out=tmp_path/'e')
    assert again.metrics['auc'].value==s.metrics['auc'].value and again.n_images==s.n_images
    assert np.allclose(again.preds.filter(like='p_'), s.preds.filter(like='p_'), atol=1e-6)
    assert load_model(out).config['classes']==['0','1']

@pytest.mark.parametrize('verb', [['vessels'],['lesions'],['explain',str(Path(__file__).parents[1]/'run/old_run/run')]])
def test_pictures_are_not_written_among_the_eyes(verb, tmp_path, capsys):
    "A second call, or `predict`, took the overlays for eyes and answered them"
    (tmp_path/'a.png').touch()
    assert main([*verb, tmp_path, '--out', tmp_path/'.', '--force'])==1
    assert 'holds the images' in capsys.readouterr().err and [o.name for o in tmp_path.iterdir()]==['a.png']
