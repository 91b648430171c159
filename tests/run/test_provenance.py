"Which table, which rows, which command; a flow for every report; a readout without epochs"
import hashlib, re
import numpy as np, pandas as pd, pytest
from PIL import Image
from fundus_fastai.core import read_json, say
from fundus_fastai.options import DataOptions, TrainOptions, UnseenOptions
from fundus_fastai.run.folder import typed_command
from fundus_fastai.run.train import evaluate_run, train_run

FAST = TrainOptions('test_efficientnet', weights='none', size=32, epochs=1, freeze_epochs=0)

def table(folder, first=0, n=60, broken=0):
    "A clinic's table: eyes of people, some rows without a label or without a file"
    folder.mkdir()
    rows = []
    for i in range(first, first+n):
        Image.fromarray(np.random.default_rng(i).integers(60, 200, (48,48,3), dtype=np.uint8)).save(folder/f'{i}.png')
        rows.append(dict(file=f'{i}.png', patient=f'p{i//2}', finding='ill' if i//2%2 else 'well'))
    rows += [dict(file=f'{first}.png', patient=f'p{first//2}', finding='well')]
    t = pd.DataFrame(rows)
    t.loc[[1,4], 'finding'] = None
    if broken: (folder/f'{first+7}.png').write_bytes(b'no picture')
    t.to_csv(folder/'list.csv', index=False)
    return folder/'list.csv'

def options(f, cls=DataOptions): return cls(str(f), label='finding', patient='patient', skip_broken=True)

@pytest.fixture(scope='module')
def done(tmp_path_factory):
    d = tmp_path_factory.mktemp('clinic')
    f = table(d/'ward', broken=1)
    say.command = ['train','disease','--data',str(f),'--label','finding','--out',str(d/'run'),'--resume']
    try: train_run('disease', options(f), FAST, out=d/'run', maps=0)
    finally: say.command = None
    evaluate_run(d/'run', options(table(d/'elsewhere', 200, 20), UnseenOptions), out=d/'e', maps=0)
    return d

def page(d): return (d/'report.html').read_text()
def steps(d): return re.findall(r'<p(?: class="out")?><b>(.*?)</b>(\d+) (?:row|image)', page(d))

def test_config_tells_the_table(done):
    p = read_json(done/'run/config.json')['provenance']
    assert p['table']=='list.csv' and p['sha256']==hashlib.sha256((done/'ward/list.csv').read_bytes()).hexdigest()
    assert p['rows']==61 and sum(p['left_out'].values())==61-1-len(pd.read_csv(done/'run/split.csv'))
    assert p['command']=='fundus train disease --data list.csv --label finding'

def test_the_flow_begins_with_the_rows_and_adds_up(done):
    s = dict(steps(done/'run'))
    assert s['Rows of the table']=='61' and 'cannot be read' in page(done/'run')
    assert page(done/'run').count('<b>Left out</b>')==1+len(read_json(done/'run/config.json')['provenance']['left_out'])
    assert int(s['Training'])+int(s['Validation'])+int(s['Test'])==int(s['Found'])-1 # of the picture that is none

def test_an_evaluation_names_its_own_data_and_has_a_flow(done):
    text,s = page(done/'e'),dict(steps(done/'e'))
    assert s['Rows of the table']=='21' and s['Test']==s['Found'] and 'Training' not in s
    own = hashlib.sha256((done/'elsewhere/list.csv').read_bytes()).hexdigest()
    assert own in text and read_json(done/'run/config.json')['provenance']['sha256'] not in text
    assert '<dt>data</dt><dd>list.csv</dd>' in text

def test_why_pictures_stay_out_of_an_evaluation(done):
    "A picture that cannot be read had been 'seen in training, or no usable answer'"
    evaluate_run(done/'run', options(table(done/'torn', 300, 20, broken=1), UnseenOptions), out=done/'e2', maps=0)
    assert '<span>cannot be read</span>' in page(done/'e2') and 'seen in training, or' not in page(done/'e2')
    evaluate_run(done/'run', options(done/'ward/list.csv', UnseenOptions), out=done/'e3', maps=0)
    s = dict(steps(done/'e3'))
    n = int(s['Found'])-int(s['Test'])-1
    assert f'<span>1 cannot be read, {n} not of the test patients of this run</span>' in page(done/'e3')

def test_the_card_adds_up_and_tells_whose_numbers_it_has(done):
    "It told of 58 images and showed 57; of an evaluation it said that the net was taught by the images it was tested on"
    evaluate_run(done/'run', options(table(done/'torn2', 400, 20, broken=1), UnseenOptions), out=done/'e4', maps=0)
    own,other = ((done/k/'README.md').read_text() for k in ('run','e4'))
    found = dict(steps(done/'run'))['Found']
    assert f'Of these, {found} images' in own and 'found, 1 image left out: cannot be read.' in own
    assert 'Of these' not in other and 'Evaluated on list.csv: 18 images' in other and 'path/to/its/run' in other

def test_no_folder_is_told(done):
    for f in [o for k in ('run','e') for o in (done/k).iterdir()]:
        assert str(done).encode() not in f.read_bytes(), f.name

def test_what_was_typed(monkeypatch):
    for words,told in ((['predict','/a b/run','C:\\scans\\1.png'], "fundus predict run 1.png"), (['train','oct','--out=/x/y','--force'], 'fundus train oct'),
                       (['train','oct','--data','my set.csv'], "fundus train oct --data 'my set.csv'")):
        monkeypatch.setattr(say, 'command', words)
        assert typed_command()==told

def test_a_readout_tells_no_epochs(tmp_path):
    train_run('oct', DataOptions(patients=16), FAST.but(fit='readout'), out=tmp_path/'r', maps=0)
    told = read_json(tmp_path/'r/config.json')['training']
    assert told['fit']=='readout' and not {'epochs','freeze_epochs','lr'} & set(told) and told['patients']==16
    assert '"epochs"' not in (tmp_path/'r/README.md').read_text()

def test_patients_that_were_not_drawn_are_not_counted(done):
    assert 'patients' not in read_json(done/'run/config.json')['training']
