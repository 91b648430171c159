"A lesson run anew is held against what is saved: what changes by itself is passed over, what a reader reads is not"
import nbformat, pandas as pd, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from house import shared # puts .ci on the path
import rerun
from rerun import alike, differences, said, whole

def shown(o):
    "An output that shows `o` as a notebook does"
    data = {'text/plain':repr(o)} | ({'text/html':o._repr_html_()} if hasattr(o, '_repr_html_') else {})
    return new_output('execute_result', data, execution_count=1)

def printed(text, name='stdout'): return new_output('stream', text=text, name=name)
def lesson(*outputs):
    cells = [new_code_cell(f'#| slow\nact({i})', outputs=o if isinstance(o, list) else [o]) for i,o in enumerate(outputs)]
    return new_notebook(cells=[new_markdown_cell('# Is it?'), *cells])

def changed(a, b, **kw): return list(differences(lesson(a), lesson(b), **kw))

@pytest.mark.parametrize('a,b', [
    (printed('12.3 s for 8 eyes'), printed('9 s for 8 eyes')),
    (printed('in /tmp/ab12/run at 0xffe1, 2026-01-02'), printed('in /tmp/zz/other at 0x01, 2027-11-30')),
    (printed('epoch 1 of 3\r'), printed('epoch 3 of 3\r')),
    (printed('a warning', 'stderr'), printed('another', 'stderr')),
    (new_output('display_data', {'text/html':'<div class="fastprogress">3</div>', 'text/plain':'3'}), []),
    (shown(pd.DataFrame(dict(auc=[.7], seconds=[3]))), shown(pd.DataFrame(dict(auc=[.7], seconds=[5])))),
    (shown(pd.DataFrame(dict(a=[3.])).rename_axis('ms an image')), shown(pd.DataFrame(dict(a=[4.])).rename_axis('ms an image'))),
    (new_output('display_data', {'image/png':'AAAA'}), new_output('display_data', {'image/jpeg':'BBBB'}))])
def test_what_changes_by_itself_is_passed_over(a, b): assert changed(a, b) == []

@pytest.mark.parametrize('a,b', [
    (shown('AUC .71'), shown('AUC .72')),
    (shown(pd.DataFrame(dict(auc=[.7], seconds=[3]))), shown(pd.DataFrame(dict(auc=[.8], seconds=[3])))),
    (shown(pd.DataFrame(dict(auc=[.7]), ['plain'])), shown(pd.DataFrame(dict(auc=[.7]), ['brief']))),
    (shown(pd.DataFrame(dict(seconds=[3], auc=[.7]))), shown(pd.DataFrame(dict(auc=[.7])))),
    (new_output('display_data', {'image/png':'AAAA'}), []),
    (printed('all of them'), new_output('error', ename='ValueError', evalue='none', traceback=[]))])
def test_what_a_reader_reads_is_not(a, b): assert len(changed(a, b)) == 1

def test_a_difference_names_its_cell_and_both_sides():
    old,new = lesson(shown(1), shown('AUC 0.71, n 8')),lesson(shown(1), shown('AUC 0.72, n 8'))
    assert list(differences(old, new)) == [(2, 'act(1)', ["'AUC 0.71, n 8'"], ["'AUC 0.72, n 8'"])]
    assert list(differences(old, new, within=.02)) == []

def test_within_is_for_numbers_alone():
    assert alike('a 100', 'a 99', .02) and not alike('a 100', 'a 97', .02) and not alike('a 100', 'b 100', .02)
    assert not alike('a 100', 'a 99', 0)

def test_a_table_with_two_rows_of_names_keeps_its_columns_apart():
    t = pd.DataFrame({'auc':[.7,.8], 'minutes':[1,2]}, pd.MultiIndex.from_tuples([('a','x'),('a','y')], names=['net','seed']))
    assert said([shown(t)])[-1] == 'y | 0.8 | <time>'

def test_another_lesson_is_refused():
    with pytest.raises(ValueError, match='cell 1'): list(differences(lesson(shown(1)), new_notebook(cells=[
        new_markdown_cell('# Is it?'), new_code_cell('other()')])))

def test_what_came_to_its_end_is_not_run_again(tmp_path):
    "And what did not, or has other cells since, is"
    f,nb,ill = tmp_path/'01.ipynb',new_notebook(cells=[new_code_cell('1+1')]),new_notebook(cells=[new_code_cell('1/0')])
    assert whole(nb, f) is None and whole(nb, None) is None
    new,error = rerun.rerun(nb, tmp_path, f)
    assert not error and whole(nb, f).cells[0].outputs==new.cells[0].outputs!=[] and 'rerun' not in nb.metadata
    assert whole(ill, f) is None
    assert 'ZeroDivisionError' in rerun.rerun(ill, tmp_path, f)[1] and f.exists() and whole(ill, f) is None
