"What is sent to others: nobody's number, nobody's file name, no picture unless it may"
import json, re, shutil, stat
from pathlib import Path
import pandas as pd, pytest
from fundus_fastai.core import DataError, read_json
from fundus_fastai.run import report
from fundus_fastai.run.report import hidden, pseudonym, remake_report, share_run

OLD = Path(__file__).parent/'old_run'/'run'

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    run = Path(shutil.copytree(OLD, tmp_path_factory.mktemp('runs')/'run'))
    remake_report(run)
    return run

@pytest.fixture(scope='module')
def names(run):
    "All that tells a patient or a file"
    t = pd.concat([pd.read_csv(run/f'{o}.csv', dtype=str) for o in ('split','predictions','validation')])
    return {*t.patient, *t.path, *(Path(o).stem for o in t.path)}

def test_nothing_of_anybody_is_left(run, names, tmp_path):
    share_run(run, tmp_path/'s', pseudonyms=True)
    files = {o.name: re.sub(r'"code": "[^"]*"|base64,[^"]*', '', o.read_text()) for o in (tmp_path/'s').iterdir()}
    assert set(files)=={'report.html','README.md','TERMS.md','report.json','metrics.json','predictions.csv','validation.csv','split.csv','history.csv','audit.json'}
    for f,text in files.items():
        assert not [o for o in names if o in text], f
        assert str(run.parent) not in text

def test_nothing_old_stands_where_a_second_sending_stopped(run, names, tmp_path, monkeypatch):
    "A report with everybody's number and pictures stood beside new tables with pseudonyms"
    share_run(run, tmp_path/'s')
    def stop(*args, **kwargs): raise KeyboardInterrupt
    monkeypatch.setattr(report, 'shared_parts', stop)
    with pytest.raises(KeyboardInterrupt): share_run(run, tmp_path/'s', pseudonyms=True, force=True)
    left = {o.name:o.read_text() for o in (tmp_path/'s').iterdir()}
    assert not [f for f,text in left.items() for o in names if o in text]
    assert 'metrics.json' not in left, "an older run's numbers, and thresholds, stood beside new predictions"

def test_who_has_the_key_finds_them_again(run, tmp_path):
    share_run(run, tmp_path/'s', pseudonyms=True)
    f = run.parent/'pseudonyms.key'
    assert stat.S_IMODE(f.stat().st_mode)==0o600 and f.read_text().strip() not in ''.join(o.read_text() for o in (tmp_path/'s').iterdir())
    a,b = (pd.read_csv(o/'predictions.csv', dtype=str) for o in (run,tmp_path/'s'))
    key = f.read_text().strip().encode()
    assert [pseudonym(o, key) for o in a.patient]==b.patient.tolist()
    assert a.drop(columns=['path','patient']).equals(b.drop(columns=['path','patient']))

def test_the_same_key_for_the_runs_of_a_folder_and_another_elsewhere(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path/'run'))
    for i,o in enumerate((run,run,other)): share_run(o, tmp_path/f's{i}', pseudonyms=True)
    a,b,c = (pd.read_csv(tmp_path/f's{i}/predictions.csv').patient.tolist() for i in range(3))
    assert a==b and not set(a) & set(c)

def test_the_numbers_are_those_of_the_run(run, tmp_path):
    share_run(run, tmp_path/'s', pseudonyms=True, no_pictures=True)
    assert read_json(tmp_path/'s/metrics.json')['metrics']==read_json(run/'metrics.json')['metrics']

def pictures(d): return (d/'report.html').read_text().count('data:image/jpeg')

@pytest.mark.parametrize('pseudonyms', [False,True])
def test_pictures_go_only_where_they_may(run, tmp_path, pseudonyms):
    scan = dict(kind='scan', type='jpeg', code='AAAA', caption='x')
    other = Path(shutil.copytree(run, tmp_path/'run'))
    kept = read_json(other/'report.json')
    first = kept['parts'][0]
    said = [o['caption'] for o in first['figures']] or [r[0] for o in first['body'] if isinstance(o, dict) for r in o['rows']]
    wrong = len(said)
    name = pd.read_csv(other/'predictions.csv').path[0]
    kept['parts'] = [dict(title='Most wrong', body=['Look here.'], figures=[dict(scan, caption=o) for o in said]),
                     dict(title='Where it looks', body=[], figures=[dict(scan, caption=f'{name}: p = .9')])]
    (other/'report.json').write_text(json.dumps(kept))
    share_run(other, tmp_path/'with', pseudonyms=pseudonyms)
    share_run(other, tmp_path/'without', pseudonyms=pseudonyms, no_pictures=True)
    assert (pictures(tmp_path/'with'),pictures(tmp_path/'without'))==(wrong+1,0)
    assert (name in (tmp_path/'with/report.html').read_text())==(not pseudonyms)

    kept['parts'][0]['figures'][0]['caption'] = 'of an image whose label was corrected'
    (other/'report.json').write_text(json.dumps(kept))
    share_run(other, tmp_path/'odd', pseudonyms=pseudonyms)
    assert pictures(tmp_path/'odd')==1, "no picture stands under words about another"

def test_nothing_of_an_earlier_share_stays(run, tmp_path):
    "Names of a share for the house do not go out with one for others"
    ev = Path(shutil.copytree(run, tmp_path/'evaluation'))
    (ev/'split.csv').unlink()
    share_run(run, tmp_path/'send')
    name = pd.read_csv(run/'predictions.csv', dtype=str).patient[0]
    assert name in (tmp_path/'send/split.csv').read_text()
    share_run(ev, tmp_path/'send', pseudonyms=True, force=True)
    assert not (tmp_path/'send/split.csv').exists() and not any(f',{name},' in o.read_text() for o in (tmp_path/'send').glob('*.csv'))

def test_the_run_itself_and_others_files_stay(run, tmp_path):
    with pytest.raises(DataError, match='the run itself'): share_run(run, run, force=True)
    (tmp_path/'README.md').write_text('my thesis')
    with pytest.raises(DataError, match='README.md'): share_run(run, tmp_path, force=True)

def test_names_within_names():
    assert hidden(['a/b.png and b.png', {'code':'b.png', 'x':1}], {'a/b.png':'ONE', 'b.png':'TWO'})==['ONE and TWO', {'code':'b.png', 'x':1}]
