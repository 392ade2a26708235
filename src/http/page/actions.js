// What can be done with a job, on the dashboard and on the job's own page.

/** The menu of one job. */
const JobMenu = ({ job }) => null;

/** The dialogs that are open. */
const Dialogs = () => null;
